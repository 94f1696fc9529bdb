"""Weights files that ask for all memory or time are refused before they get it."""

import collections
import io
import os
import pickle
import struct
import tarfile
import time
import zipfile

import pytest
import torch
from aiqvit.tasks.checkpoints import bounds
from aiqvit.tasks.checkpoints.containers import weights_in
from aiqvit.tasks.checkpoints.formats import read_file
from aiqvit.tasks.models.point_transformer import PointTransformer
from aiqvit.tasks.models.point_weights import build
from aiqvit.tasks.weights import read_checkpoint, read_state
from safetensors.torch import save_file

from aiqvit.interfaces import UserError
from aiqvit.io.limits import variable

EMPTY, MARK, STOP = b"}", b"(", b"."
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tQ"
UNTYPED = b"ctorch.storage\nUntypedStorage\n"


@pytest.fixture
def refused(tmp_path):
    """Content of a file is refused with a message, at once."""

    def call(content, message):
        path = tmp_path / "a.pth"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        begun = time.monotonic()
        with pytest.raises(UserError, match=message) as caught:
            read_checkpoint(path)
        assert time.monotonic() - begun < 10 and "\n" not in str(caught.value)

    return call


def archive(body, numbers=bytes(64), packed=zipfile.ZIP_STORED):
    with zipfile.ZipFile(content := io.BytesIO(), "w", packed) as file:
        file.writestr("a/data.pkl", body)
        file.writestr("a/version", "3\n")
        file.writestr("a/data/0", numbers)
    return content.getvalue()


class Calls:
    """Whatever function with whatever arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def rebuilt(size, stride, count=4):
    storage = torch.zeros(count).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    return Calls(torch._utils._rebuild_tensor_v2, typed, 0, size, stride, False, collections.OrderedDict())


@pytest.mark.parametrize("value", [rebuilt((5,), (1,)), rebuilt((2,), (2**62,))])
def test_views_beyond_their_numbers(refused, value):
    refused({"a": value}, "beyond its numbers")


@pytest.mark.parametrize("value", [torch.zeros(1).expand(20000, 20000), rebuilt((2**62, 2**62), (0, 0))])
def test_views_much_larger_than_their_numbers_are_left_out(refused, tmp_path, value):
    refused({"a": value}, "no tensors by name, only 'a', which shows more numbers than it has")
    torch.save({"model": {"a": value, "b": torch.ones(2)}, "mask": value}, tmp_path / "b.pth")
    state, notes = read_checkpoint(tmp_path / "b.pth")
    assert state.keys() == {"b"} and notes[0] == "1 left out that show more numbers than they have: a"
    torch.save({"model": {"b": torch.ones(2)}, "mask": value}, tmp_path / "b.pth")
    assert read_checkpoint(tmp_path / "b.pth")[1] == ["weights taken from the key 'model'"]


def test_small_views_that_share_numbers_are_read(tmp_path):
    state = {"mask": torch.ones(1).expand(100), "parts": torch.arange(10.0).unfold(0, 3, 1)}
    torch.save(state, tmp_path / "a.pth")
    found = read_state(tmp_path / "a.pth")
    assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize("value", [rebuilt((1,) * 65, (1,) * 65), rebuilt((1.0,), (1,)), rebuilt((-1,), (1,)),
                                   rebuilt((2**30_000,), (0,)), rebuilt((1, 1), (1,))])
def test_views_that_are_none(refused, value):
    refused({"a": value}, "without numbers")


def test_many_views_of_the_same_numbers(refused):
    base = torch.zeros(5_000_000)
    refused({str(i): base[i:] for i in range(20)}, "share so many numbers")


def test_tied_layers_are_fine(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": base, "b": base, "ids": torch.arange(5).expand(1, -1), "t": base.T}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")[0]["t"].shape == (3, 2)


def test_archives_that_unpack_to_much_more(refused, tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(30_000_000)}, tmp_path / "big.pth")
    with zipfile.ZipFile(tmp_path / "big.pth") as old, zipfile.ZipFile(tmp_path / "b.pth", "w",
                                                                       zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    refused((tmp_path / "b.pth").read_bytes(), r"its 0.1 MiB unpack to 114, which no weights do")
    monkeypatch.setattr(bounds, "limit", lambda name: 0)
    with pytest.raises(UserError, match=f"too large: it has 0.1 GiB, and {variable('weights_gib')}"):
        read_file(tmp_path / "big.pth")


@pytest.mark.parametrize("count", [17, 2**40, -1])
def test_more_numbers_than_bytes(refused, count):
    torch.save({"a": torch.zeros(16)}, content := io.BytesIO())
    with zipfile.ZipFile(content) as file:
        (name,) = (name for name in file.namelist() if name.endswith("data.pkl"))
        body = file.read(name)
    long = pickle.dumps(count, 2)[2:-1]
    assert b"K\x10tq" in body
    refused(archive(body.replace(b"K\x10tq", long + b"tq")), "more numbers than bytes|does not match|beyond")


def nested(depth):
    """Tuples of twice the same one: its hash takes two to the power of the depth."""
    value = ()
    for _ in range(depth):
        value = (value, value)
    return value


@pytest.mark.parametrize(("body", "message"), [
    (b"\x80\x02" + EMPTY * 5_000_001 + STOP, "million steps"),
    (b"\x80\x02}" + b"(" * 100_000 + STOP, "damaged"),
    (b"\x80\x02]" + b"]" * 100_000 + b"a" * 100_000 + STOP, "no tensors"),
    (b"\x80\x02}r\xff\xff\xff\x7f" + STOP, "no tensors"),  # a memo of 2**31 places
    (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x" + STOP, "larger than 128 MiB"),  # bytes that are not there
    (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x" + STOP, "larger than 128 MiB"),
    (b"\x80\x02L" + b"9" * 1_000_000 + b"L\n" + STOP, "damaged"),
    (b"\x80\x02K\x05K\x05K\x05s" + STOP, "damaged")])
def test_pickles_that_take_all(refused, body, message):
    refused(archive(body), message)


@pytest.mark.parametrize("key", [nested(60), (1, nested(60)), 2**30_000, 1.5, (1, "a"), STORAGE], ids=range(6))
def test_keys_that_are_no_names_are_passed_over(tmp_path, key):
    begun = time.monotonic()
    for start, end in ((b"}", b"K\x01s."), (b"}(", b"K\x01u."), (b"(", b"K\x01d.")):
        pickler = pickle._Pickler(body := io.BytesIO(), 2)
        pickler.write(b"\x80\x02" + start)
        pickler.write(key) if isinstance(key, bytes) else pickler.save(key)
        (tmp_path / "a.pth").write_bytes(archive(body.getvalue() + end))
        assert read_file(tmp_path / "a.pth") == {}
    assert time.monotonic() - begun < 1


def test_keys_that_a_dictionary_cannot_tell_apart(tmp_path):
    entries = (pickle.dumps(i * (2**61 - 1), 2)[2:-1] + b"K\x00" for i in range(2, 50_003))
    body = b"\x80\x02}(" + b"".join(entries) + b"K\x07K\x01X\x01\x00\x00\x00aK\x02u."
    (tmp_path / "a.pth").write_bytes(archive(body))
    begun = time.monotonic()
    assert read_file(tmp_path / "a.pth") == {7: 1, "a": 2} and time.monotonic() - begun < 2


@pytest.mark.parametrize("key", [nested(60), 3], ids=range(2))
def test_names_of_numbers_in_old_files(refused, tmp_path, key):
    torch.save({"a": torch.arange(8.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "old.pth").read_bytes()
    pickler = pickle._Pickler(body := io.BytesIO(), 2)
    pickler.dump([key])
    refused(whole[: whole.rindex(b"\x80\x02]")] + body.getvalue(), "numbers without a name")
    pickler = pickle._Pickler(body := io.BytesIO(), 2)
    pickler.save((key, 0, 1))
    at = whole.rindex(b"Ntq")  # no part of the numbers
    refused(whole[:at] + body.getvalue() + whole[at + 1 :], "numbers without a name")


@pytest.mark.parametrize("call", [
    b"(j\x01\x00\x01\x00j\x00\x00\x01\x00o0", b"j\x01\x00\x01\x00j\x00\x00\x01\x00\x85R0",
    b"(j\x00\x00\x01\x00ix\nY\n0"])
def test_copies_are_counted_whatever_asks_for_them(refused, call):
    body = pickle.dumps(dict.fromkeys(range(20_000)), 2)[:-1] + b"r\x00\x00\x01\x000cx\nY\nr\x01\x00\x01\x000"
    refused(archive(body + call * 1000 + b"}."), "not read, because it takes more than 5 million steps to build: save")


@pytest.mark.parametrize("call", [STORAGE + b"K\x05\x85\x81", STORAGE + b"K\x05\x85}\x92", b"(" + STORAGE + b"K\x05o",
                                  STORAGE + b"K\x05\x85R", UNTYPED + b"K\x05\x85R", UNTYPED + b"K\x05\x85\x81",
                                  b"cx\nY\nX\x03\x00\x00\x00abcR"])
def test_storages_are_not_called(refused, call):
    refused(archive(b"\x80\x02" + call + STOP), "calls what is no function")


def test_what_is_beside_the_numbers_of_old_files(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "PICKLE", 100_000)
    state = {"a": torch.arange(50_000.0)}
    torch.save(state, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_state(tmp_path / "b.pth")["a"], state["a"])
    torch.save({**state, "x": "a" * 100_000}, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    refused((tmp_path / "b.pth").read_bytes(), "beside the numbers of its tensors is larger than")


def test_copies_of_a_large_dictionary_are_counted(refused):
    keep, kind = b"r\x00\x00\x01\x00", b"cx\nY\nr\x01\x00\x01\x00"
    body = pickle.dumps(dict.fromkeys(range(10_000)), 2)[:-1] + keep + b"0" + kind + b"0"
    copy = b"j\x01\x00\x01\x00" + b"j\x00\x00\x01\x00" + b"\x85R0"
    refused(archive(body + copy * 1000 + b"}."), "million steps")


def test_containers_in_each_other_are_looked_into_once():
    inner = {"model": {}}
    for _ in range(40):
        inner = dict.fromkeys(("state_dict", "model", "net", "ema", "teacher", "student", "x", "y"), inner)
    loop = {}
    loop["model"] = loop
    begun = time.monotonic()
    assert weights_in(inner) == ({}, "") == weights_in(loop) and time.monotonic() - begun < 1


def test_old_files_in_a_tar_are_not_unpacked(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tarfile.open(fileobj=(content := io.BytesIO()), mode="w", format=tarfile.GNU_FORMAT) as file:
        for name in ("\udc80storages", "storages"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/dev/zero"
            file.addfile(link)
    refused(content.getvalue(), "damaged")
    assert content.getvalue()[:1] == b"\x80" and os.listdir(tmp_path) == ["a.pth"]


def test_old_files_without_their_numbers(refused, tmp_path):
    torch.save({"a": torch.arange(8.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "old.pth").read_bytes()
    at = whole.rindex(pickle.dumps(["0"], 2)[:4])
    refused(whole[:at] + pickle.dumps([], 2), "numbers of all its tensors|damaged")


def test_names_that_no_network_has(refused, tmp_path):
    refused({"a." * 600: torch.zeros(2)}, "names of up to 1200 characters")
    save_file({"x" * 2000: torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="names of up to 2000"):
        read_checkpoint(tmp_path / "a.safetensors")


def test_special_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", "/dev/zero"):
        with pytest.raises(UserError, match="is no regular file"):
            read_file(path)
    with pytest.raises(UserError, match="can be called"):
        read_file("x" * 5000)
    with pytest.raises(UserError, match="does not exist"):
        read_file("~nosuchuser/x.pth")


@pytest.mark.parametrize(("key", "shape"), [
    ("blocks.0.query.weight", (20_000, 8)), ("classifier.4.weight", (60_000, 2)),
    ("blocks.1.reduce.weight", (65_536, 1)), ("embed.0.weight", (8, 70_000))])
def test_point_transformers_are_no_larger_than_their_weights(key, shape):
    state = PointTransformer(6, 3, (8, 16), 8).state_dict()
    build(state, "x")
    state[key] = torch.zeros(1).expand(shape) if key != "embed.0.weight" else torch.zeros(shape)
    with pytest.raises(UserError, match="not those of a Point Transformer"):
        build(state, "x")
