"""Files that make a decoder do far more than their pixels are refused at once; those of cameras are not."""

import io
import struct
import zlib

import numpy as np
import pytest
from aiqvit.tasks import picture_bytes
from aiqvit.tasks.picture_bytes import MARKERS, READS
from aiqvit.tasks.pictures import header, read_checked, read_rgb
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
MANY = READS // 2  # pieces of metadata, each of three reads or more


def encoded(kind, pixels=NOISE, **options):
    Image.fromarray(pixels).save(content := io.BytesIO(), kind, **options)
    return content.getvalue()


def chunk(kind, body=b""):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff(*tags):
    """A gray picture of 10 x 10 pixels of 0, deflated, and more tags."""
    data = zlib.compress(bytes(100))
    known = [(256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    known += tags or [(278, 4, 1, 10), (273, 4, 1, 500), (279, 4, 1, len(data))]
    body = struct.pack("<H", len(known)) + b"".join(struct.pack("<HHII", *tag) for tag in known) + bytes(4)
    return (b"II*\0" + struct.pack("<I", 8) + body).ljust(500, b"\0") + data


def tiled(width, height, *more):
    data = len(zlib.compress(bytes(100)))
    return tiff((322, 4, 1, width), (323, 4, 1, height), *more, (324, 4, 1, 500), (325, 4, 1, data))


def comments():
    content = encoded("GIF", NOISE[..., 0])
    image = content.index(b",")
    return content[:image] + b"!\xfe\x01a\0" * (MANY * 5) + content[image:]


def segments():
    content = encoded("JPEG")
    return content[:2] + b"\xff\xe3\0\2" * (MANY * 6) + content[2:]


def chunks(before):
    content = encoded("PNG")
    place = content.index(b"IDAT" if before else b"IEND") - 4
    return content[:place] + chunk(b"prIv") * (MANY * 2) + content[place:]


def scans(count):
    """A large progressive picture whose last scan is there again and again."""
    content = encoded("JPEG", np.zeros((1100, 1000), np.uint8), progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * count + content[-2:]


HOSTILE = {
    "comments of a GIF": (comments, "more metadata"), "segments of a JPEG": (segments, "more metadata"),
    "chunks of a PNG": (lambda: chunks(True), "more metadata"),
    "chunks behind a PNG": (lambda: chunks(False), "more metadata"),
    "words before a PPM": (lambda: b"P6 " + b"#\n" * 2**20, "more metadata"),
    "scans": (lambda: scans(MARKERS), "more scans"),
    "scans behind markers": (lambda: scans(0)[:-2] + b"\xff\xfe\0\2" * MARKERS + b"\xff\xd9", "more scans"),
    "pixels as text": (lambda: b"P3 2 1 255\n1 2 3 4 5 6\n", "written as text: save it as binary"),
    "a tile": (lambda: tiled(46_336, 46_336), "tiles of 46336 x 46336 pixels in a picture of 10 x 10"),
    "a long tile": (lambda: tiled(16, 2**30), "tiles of 16 x"), "no tile": (lambda: tiled(0, 16), "no number"),
    "a tile twice": (lambda: tiled(16, 16, (322, 4, 1, 46_336)), "a tag twice"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path, name):
    make, message = HOSTILE[name]
    (tmp_path / "x.png").write_bytes(make())
    for read in (read_rgb, read_checked):
        if name != "chunks behind a PNG" or read is read_rgb:  # the other gives the bytes to another decoder
            with pytest.raises(ValueError, match=message):
                read(tmp_path / "x.png")


def test_files_out_of_proportion_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_bytes, "LOOSE", 2 * picture_bytes.SMALL)
    content = encoded("BMP")
    (tmp_path / "x.png").write_bytes(content + bytes(2 * picture_bytes.SMALL + picture_bytes.BYTES * 2400))
    with pytest.raises(ValueError, match="a file of 2 MiB for 60 x 40 pixels"), header(tmp_path / "x.png"):
        pass
    (tmp_path / "x.png").write_bytes(content + bytes(2 * picture_bytes.SMALL))
    assert (np.asarray(read_rgb(tmp_path / "x.png")) == NOISE).all()


def honest():
    """Content as cameras, scanners and editors write it, and what is in it."""
    large = np.zeros((1100, 1000, 3), np.uint8)
    exif = Image.Exif()
    exif[0x010E] = "text" * 1000
    photo = {"exif": exif, "icc_profile": bytes(500_000), "xmp": bytes(60_000)}
    frames = [Image.fromarray(NOISE[::-1])] * 3
    yield "photo", encoded("JPEG", large, **photo), large
    yield "progressive", encoded("JPEG", large, progressive=True, **photo), large
    yield "a film behind it", encoded("JPEG", large) + NOISE.tobytes() * 500, large
    yield "MPO", encoded("MPO", large, save_all=True, append_images=[Image.fromarray(large)]), large
    yield "twenty scans again", scans(20), large
    yield "large PNG", encoded("PNG", np.resize(NOISE, (1100, 1000, 3))), np.resize(NOISE, (1100, 1000, 3))
    yield "film", encoded("WEBP", save_all=True, append_images=frames, lossless=True), NOISE
    yield "TIFF", tiff(), np.zeros((10, 10, 3), np.uint8)
    for name in ("tiff_lzw", "tiff_adobe_deflate", "raw"):
        for big in (False, True):
            yield f"{name} {big}", encoded("TIFF", compression=name, big_tiff=big), NOISE
    yield "binary", encoded("PPM"), NOISE


@pytest.mark.parametrize("case", list(honest()), ids=lambda case: case[0])
def test_honest_files_are_read(tmp_path, case):
    _, content, pixels = case
    (tmp_path / "x.png").write_bytes(content)
    assert (np.asarray(read_rgb(tmp_path / "x.png")) == pixels).all()
    found, size = read_checked(tmp_path / "x.png")
    assert found == content and size == pixels.shape[1::-1]


def test_a_film_of_a_gif_is_read(tmp_path):
    frames = [Image.fromarray(NOISE[..., i]) for i in range(3)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (np.asarray(read_rgb(tmp_path / "x.gif")) == NOISE[..., :1]).all()


def test_tiles_are_read(tmp_path):
    data = zlib.compress(bytes(range(256)))
    content = tiled(16, 16)[:500].replace(struct.pack("<HHII", 325, 4, 1, len(zlib.compress(bytes(100)))),
                                          struct.pack("<HHII", 325, 4, 1, len(data))) + data
    (tmp_path / "x.tif").write_bytes(content)
    assert (np.asarray(read_rgb(tmp_path / "x.tif"))[..., 0] == np.arange(256).reshape(16, 16)[:10, :10]).all()
