"""Pictures are told by their content, within bounds of size and memory, and only regular files are read."""

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from aiqvit.tasks import pictures
from aiqvit.tasks.pictures import FORMATS, UNREAD, header, read_checked, read_rgb, reason
from PIL import Image

from aiqvit.io.limits import variable

SOURCES = Path(pictures.__file__).parent
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage"


def png(width, height):
    """A small file that says it is this large."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(
        b"IDAT", rows) + chunk(b"IEND", b"")


def foreign():
    """Content of formats that are not on the list, some of which start programs."""
    image = Image.new("RGB", (10, 10))
    found = {"eps": EPS, "pdf": b"%PDF-1.4\n", "wmf": b"\xd7\xcd\xc6\x9a" + bytes(80)}
    for kind in ("ICO", "TGA", "SGI", "PCX", "JPEG2000", "ICNS", "SPIDER"):
        image.convert("F" if kind == "SPIDER" else "RGB").save(content := io.BytesIO(), kind)
        found[kind] = content.getvalue()
    return found


def test_other_formats_are_broken_whatever_their_name(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    for kind, content in foreign().items():
        (tmp_path / "x.png").write_bytes(content)
        for read in (read_rgb, read_checked):
            with pytest.raises(Exception) as caught:
                read(tmp_path / "x.png")
            assert reason(caught.value) == UNREAD, kind
    assert not (tmp_path / "started").exists() and "EPS" not in FORMATS


def test_pictures_are_opened_at_one_place():
    for path in SOURCES.rglob("*.py"):
        found = path.read_text().count("Image.open(")
        assert found == (1 if path.name == "pictures.py" and path.parent == SOURCES else 0), path


@pytest.mark.parametrize(("size", "message"), [
    ((13_300, 13_300), "13300 x 13300 pixels, more than 100 million .AIQVIT_MAX_MEGAPIXELS"),
    ((1, 60_000), "100 times"),
    ((60_000, 2), "100 times"), ((2**31 - 1, 2**31 - 1), "more than 100 million")])
def test_bombs_are_told_by_their_header(tmp_path, size, message):
    (tmp_path / "x.png").write_bytes(png(*size))
    for read in (read_rgb, read_checked):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "x.png")


def test_the_limit_can_be_set(tmp_path, monkeypatch):
    Image.new("RGB", (1500, 1000)).save(tmp_path / "x.png")
    assert read_rgb(tmp_path / "x.png").size == (1500, 1000)
    monkeypatch.setenv(variable("megapixels"), "1")
    with pytest.raises(ValueError, match="1500 x 1000 pixels, more than 1 million"):
        read_rgb(tmp_path / "x.png")
    (tmp_path / "y.bmp").write_bytes(b"BM" + bytes(8 * 10**6))
    with pytest.raises(OSError, match="larger than 8 MB"):
        read_rgb(tmp_path / "y.bmp")


def test_special_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe", "zero", "folder"):
        for read in (read_rgb, read_checked):
            with pytest.raises(OSError):
                read(tmp_path / f"{name}.png")


def test_threads_share_the_memory(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(tmp_path / "x.png")
    monkeypatch.setattr(pictures, "_memory", pictures._Shared(100 * 100 * pictures.NARROW))
    at_once, most, real = 0, 0, pictures.as_rgb

    def counted(image):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        threading.Event().wait(0.01)
        at_once -= 1
        return real(image)

    monkeypatch.setattr(pictures, "as_rgb", counted)
    threads = [threading.Thread(target=read_rgb, args=(tmp_path / "x.png",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and pictures._memory.left == pictures._memory.total


def test_damaged_pictures_are_broken(tmp_path):
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    for content in (b"", whole[:50], whole[:20], b"\x89PNG\r\n\x1a\n", whole.replace(b"IDAT", b"XDAT")):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(Exception) as caught:
            read_rgb(tmp_path / "x.png")
        assert "\n" not in reason(caught.value)
    with pytest.raises(FileNotFoundError), header(tmp_path / "none.png"):
        pass
