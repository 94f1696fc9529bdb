"""Archives that two readers would understand differently are refused before either unpacks them."""

import io
import struct
import zipfile

import pytest
import torch
from aiqvit.tasks.checkpoints import archives
from aiqvit.tasks.weights import read_state

from aiqvit.interfaces import UserError

STATE = {"a": torch.arange(6.0)}


def packed(body, kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(content := io.BytesIO(), "w", kind) as file:
        file.writestr("a/data.pkl", body)
        file.writestr("a/version", "3\n")
    return content.getvalue()


def directory(content):
    """Where the list of parts is, its bytes, and where the parts of the last record say so."""
    length, start = struct.unpack("<LL", content[-10:-2])
    return start, content[start : start + length]


def two_directories():
    """The stated place has a list of large parts; right before the end is one of small ones, with a place corrected."""
    much = b"\x80\x02X" + struct.pack("<I", 10**8) + bytes(10**8) + b"."
    large, small = packed(much, zipfile.ZIP_DEFLATED), packed(b"}.")
    start, listed = directory(large)
    begins, own = directory(small)
    moved, at = bytearray(own), 0
    for _ in range(2):
        (place,) = struct.unpack("<L", moved[at + 42 : at + 46])
        moved[at + 42 : at + 46] = struct.pack("<L", start + place - begins)
        at += 46 + sum(struct.unpack("<HHH", moved[at + 28 : at + 34]))
    return large[: start + len(listed)] + small[:begins] + bytes(moved) + large[-22:]


def test_the_two_readers_differ(tmp_path):
    (tmp_path / "a.pth").write_bytes(two_directories())
    with zipfile.ZipFile(tmp_path / "a.pth") as file:
        assert file.read("a/data.pkl") == b"}."
    assert torch._C.PyTorchFileReader(str(tmp_path / "a.pth")).get_record_size("data.pkl") > 10**8


def saved(tmp_path):
    torch.save(STATE, tmp_path / "good.pth")
    return (tmp_path / "good.pth").read_bytes()


def test_archives_of_all_programs_are_read(tmp_path):
    content = saved(tmp_path)
    assert content[-42:-38] == b"PK\6\7"  # torch writes the form for large archives
    assert torch.equal(read_state(tmp_path / "good.pth")["a"], STATE["a"])
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(tmp_path / "b.pth", "w", kind) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
        assert torch.equal(read_state(tmp_path / "b.pth")["a"], STATE["a"])


def test_archives_that_are_understood_in_two_ways(tmp_path):
    content = saved(tmp_path)
    place = struct.pack("<Q", len(content) - 97)
    wrong = {"two": two_directories(), "before": b"PK\3\4" + content, "behind": content + b"x",
             "remark": content[:-2] + b"\1\0x", "moved": content[:-34] + place + content[-26:],
             "start": content[:-50] + place + content[-42:], "second": content + content[-22:], "cut": content[:-1]}
    for name, changed in wrong.items():
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(UserError, match="cut off or damaged"):
            read_state(tmp_path / name)


def test_a_size_that_is_stated_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as file:
        for name in ("a/data.pkl", "a/version"):
            part = zipfile.ZipInfo(name)
            part.extra = struct.pack("<HHL4x", 9, 8, 2**32 - 1)
            file.writestr(part, b"}.")
    with pytest.raises(UserError, match="cut off or damaged"):
        read_state(tmp_path / "a.pth")


def test_long_lists_of_parts(tmp_path, monkeypatch):
    saved(tmp_path)
    monkeypatch.setattr(archives, "DIRECTORY", 10)
    with pytest.raises(UserError, match="is not read, because its list of parts is larger than 0 MiB"):
        read_state(tmp_path / "good.pth")


def test_the_names_of_parts_differ_in_case(tmp_path, monkeypatch):
    monkeypatch.setattr("aiqvit.tasks.checkpoints.bounds.PICKLE", 1000)
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as file:
        for name, body in (("a/data.pkl", b"}."), ("a/DATA.PKL", b"}." + bytes(5000)), ("a/version", "3")):
            file.writestr(name, body)
    with pytest.raises(UserError, match="no tensors by name|is larger than"):
        read_state(tmp_path / "a.pth")
