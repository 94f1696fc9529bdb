"""Nothing in a checkpoint is run, whatever it says, and what is plain in it is read."""

import argparse
import collections
import enum
import functools
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
from aiqvit.tasks.checkpoints.formats import read_file
from aiqvit.tasks.weights import read_checkpoint, read_state
from torch import nn

from aiqvit.interfaces import UserError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


class Color(enum.Enum):
    """An enumeration of a training script."""

    RED = 1


class Config(dict):
    """A dictionary of a class of its own, as configuration libraries have."""


class Buffer:
    """An object with state that is no dictionary, as training histories have."""

    def __getstate__(self):
        return [1, 2], np.zeros(3), {"n": 3}

    def __setstate__(self, state):
        raise AssertionError("this code is not to run")


class Slots:
    """An object without a dictionary."""

    __slots__ = ("x",)


class Attack:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def settings():
    slots = Slots()
    slots.x = 1
    return {
        "namespace": argparse.Namespace(lr=1e-3, path=pathlib.Path("x"), color=Color.RED),
        "scalar": np.float64(3), "array": np.arange(3), "dtype": np.dtype("float32"), "history": Buffer(),
        "slots": slots, "default": collections.defaultdict(list, a=[1]), "ordered": collections.OrderedDict(a=1),
        "counter": collections.Counter("aab"), "set": {1, 2}, "frozen": frozenset({1}), "complex": 1j,
        "range": range(3), "config": Config(a=Config(b=1)),
        "function": functools.partial(print, 1), "class": Config, "keys": {Color.RED: 1, (1, 2): 2}, "bytes": b"x",
        "big": 2**3000, "device": torch.device("cpu"), "kind": torch.float16, "size": torch.Size([1]),
    }


@pytest.mark.parametrize("options", [{}, {"pickle_protocol": 4}, {"pickle_protocol": 5},
                                     {"_use_new_zipfile_serialization": False}])
def test_settings_beside_the_weights_do_no_harm(tmp_path, options):
    torch.save({"args": settings(), "state_dict": STATE, "epoch": 3}, tmp_path / "a.pth", **options)
    state = read_state(tmp_path / "a.pth")
    assert state.keys() == STATE.keys() and all(torch.equal(state[k], STATE[k]) for k in STATE)
    settings_read = read_file(tmp_path / "a.pth")["args"]
    assert settings_read["namespace"]["lr"] == 1e-3 and settings_read["config"]["a"]["b"] == 1
    assert settings_read["slots"]["x"] == 1 and settings_read["keys"] == {}


def test_each_setting_alone(tmp_path):
    for name, value in settings().items():
        torch.save({"x": value, "model": STATE}, tmp_path / "a.pth")
        assert torch.equal(read_state(tmp_path / "a.pth")["a.weight"], STATE["a.weight"]), name


def test_views_halves_parameters_and_shared_storage(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    state = {"t": base.T, "part": base[1:, ::2], "half": base.half(), "brain": base.bfloat16(), "double": base.double(),
             "p": nn.Parameter(base), "none": torch.zeros(0, 3), "scalar": torch.tensor(2.0)}
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(state, tmp_path / "a.pth", **options)
        found = read_state(tmp_path / "a.pth")
        assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in state.items())
        assert not found["p"].requires_grad


def attacks(mark):
    return [Attack(os.system, f"touch {mark}"), Attack(eval, f"open({str(mark)!r}, 'w')"),
            Attack(pathlib.Path.touch, pathlib.Path(mark)), Attack(getattr, os, "system"),
            Attack(functools.partial(os.system, f"touch {mark}")),
            Attack(np.save, str(mark), np.zeros(1)), Attack(torch.save, {}, str(mark))]


@pytest.mark.parametrize("number", range(7))
def test_no_function_is_called(tmp_path, number):
    attack = attacks(tmp_path / "mark.npy")[number]
    for content in ({"model": STATE, "x": attack}, attack, {"model": {**STATE, "x": attack}}):
        for options in ({}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}):
            try:
                torch.save(content, tmp_path / "a.pth", **options)
            except (pickle.PicklingError, TypeError):  # a module cannot be stored
                continue
            try:
                assert "a.weight" in read_state(tmp_path / "a.pth")
            except UserError as error:
                assert "holds no tensors" in str(error)
            assert not (tmp_path / "mark.npy").exists()


def test_a_file_cannot_change_the_functions_that_it_is_read_with(tmp_path):
    import torch._utils as utils

    before = utils._rebuild_tensor_v2.__defaults__, collections.OrderedDict.__dict__.keys()
    for name in (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"cx\nY\n"):
        body = b"\x80\x02" + name + b"N}X\x0c\x00\x00\x00__defaults__K\x01s\x86b."
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as file:
            file.writestr("a/data.pkl", body)
            file.writestr("a/version", "3\n")
        with pytest.raises(UserError, match="damaged|cannot be read"):
            read_state(tmp_path / "a.pth")
    assert before == (utils._rebuild_tensor_v2.__defaults__, collections.OrderedDict.__dict__.keys())


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path, monkeypatch):
    class Beyond:
        def __reduce__(self):
            storage = torch.zeros(2).storage()
            return torch._utils._rebuild_tensor_v2, (storage, 0, (1000,), (1,), False, collections.OrderedDict())

    torch.save({"a": Beyond()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="beyond its numbers"):
        read_state(tmp_path / "a.pth")


def test_a_network_stored_as_an_object(tmp_path):
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3)))
    torch.save({"ema": net, "epoch": 1}, tmp_path / "a.pth")
    state, notes = read_checkpoint(tmp_path / "a.pth")
    assert state.keys() == net.state_dict().keys() and notes == ["weights taken from the key 'ema'"]


def damaged(tmp_path):
    torch.save(STATE, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("weights.txt", "no")
    np.savez(tmp_path / "a.npz", a=np.zeros(1))
    script = torch.jit.script(nn.Linear(1, 1))
    torch.jit.save(script, tmp_path / "script.pt")
    return {
        "cut": (whole[: len(whole) // 2], "cut off or damaged"), "empty": (b"", "is empty"),
        "page": (b"<!DOCTYPE html><html>", "web page"), "pointer": (b"version https://git-lfs.github.com", "Git LFS"),
        "index": (b'\xef\xbb\xbf{"weight_map": {}}', "index of a model"), "text": (b"no weights", "unknown format"),
        "gzip": (b"\x1f\x8b\x08xx", "gzip"), "safe": ((10**6).to_bytes(8, "little") + b'{"a":', "cut off or damaged"),
        "zip": ((tmp_path / "other.zip").read_bytes(), "unpack it first"),
        "npz": ((tmp_path / "a.npz").read_bytes(), "NumPy arrays"), "old": (b"\x80\x02garbage", "damaged"),
        "script": ((tmp_path / "script.pt").read_bytes(), "TorchScript"),
    }


def test_what_is_no_weights_file_is_said(tmp_path):
    for name, (content, message) in damaged(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            read_file(tmp_path / name)
        assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and str(tmp_path) in str(caught.value)
    with pytest.raises(UserError, match="is a folder"):
        read_file(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_file(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("options", [{}, {"pickle_protocol": 5}, {"_use_new_zipfile_serialization": False}])
def test_much_beside_the_weights(tmp_path, options):
    beside = {"prototypes": np.random.default_rng(0).integers(0, 256, 6_000_000, np.uint8), "log": "x" * 6_000_000,
              "grid": {(i, j): (i, j) for i in range(60) for j in range(60)}, "mask": torch.zeros(1).expand(100)}
    torch.save({"model": STATE, **beside}, tmp_path / "a.pth", **options)
    state = read_state(tmp_path / "a.pth")
    assert state.keys() == STATE.keys() and all(torch.equal(state[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize("value", [
    torch.zeros(3).to(torch.float8_e4m3fn), torch.zeros(3, dtype=torch.uint16), torch.eye(3).to_sparse(),
    torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8), torch.zeros(3, dtype=torch.complex64)])
def test_tensors_of_other_kinds_beside_the_weights(tmp_path, value):
    torch.save({"model": STATE, "x": {"q": value}}, tmp_path / "a.pth")
    state = read_state(tmp_path / "a.pth")
    assert state.keys() == STATE.keys() and all(torch.equal(state[k], STATE[k]) for k in STATE)
