"""What the command line means."""

import os
import types

import pytest
import torch

from aiqvit.bench import read
from aiqvit.harness.launch.request import Request
from aiqvit.interfaces import Bits, UserError
from aiqvit.registry import TASKS

REAL = types.SimpleNamespace(name="imagenet", label="imagenet")
MINI = types.SimpleNamespace(name="imagenet", label="imagenet-mini")


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_lists_keep_their_order_without_repeats():
    request = Request(bits="6/6, 3/4,6/6", seeds="2,0,2")
    assert request.bit_widths() == [Bits(6, 6), Bits(3, 4)]
    assert request.seed_list() == [2, 0]


def test_devices(gpus):
    assert Request().place() == "cuda:0"
    assert Request(device="cpu").place() == "cpu"
    assert Request(device="cuda").place() == "cuda:0"
    assert Request(device="cuda:1").place() == "cuda:1"
    with pytest.raises(UserError, match="this machine has 2 usable"):
        Request(device="cuda:2").place()


def test_presets():
    assert Request().preset_for(REAL, "cuda:0") == "paper"
    assert Request().preset_for(REAL, "cpu") == Request().preset_for(MINI, "cuda:0") == "quick"
    assert Request(preset="smoke").preset_for(REAL, "cuda:0") == "smoke"


def test_one_folder_for_several_tasks(monkeypatch, tmp_path):
    monkeypatch.setattr(TASKS, "_read", True)
    monkeypatch.setattr(TASKS, "_entries", {"a": "x:A", "b": "x:B"})
    Request(task="a,b").check()
    Request(task="all", data="mini").check()
    with pytest.raises(UserError, match="belong to one task"):
        Request(task="all", data=str(tmp_path)).check()


@pytest.mark.parametrize(("field", "value"), [
    ("seeds", "4294967296"), ("seeds", "-1"), ("seeds", "9" * 5000), ("seeds", "0.5"), ("limit", 0), ("limit", 2**31),
    ("limit", -1), ("threads", 0), ("threads", 1025), ("workers", 10**6), ("batch_size", -3), ("batch_size", 10**20),
    ("calib", 10**12), ("gpus_per_run", float("nan")), ("gpus_per_run", float("inf")), ("bits", "9" * 5000 + "/4"),
    ("seeds", "1_0"), ("seeds", "\u0663"), ("seeds", "nan"), ("bits", "\u0664/\u0664"), ("limit", True), ("limit", 2.0),
])
def test_numbers_out_of_range(field, value):
    launcher = {"launcher": "ray"} if field == "gpus_per_run" else {}
    with pytest.raises(UserError, match="expected"):
        Request(**{field: value}, **launcher).check()


def test_numbers_at_the_edge():
    assert Request(seeds="0,4294967295").seed_list() == [0, 4294967295]
    Request(limit=2**31 - 1, batch_size=1, threads=1).check()


def test_more_than_this_machine_bears_is_refused_with_the_bound(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    Request(workers=8, threads=8).check()
    for asked, message in (({"workers": 9}, "--workers 9: expected at most 8, 4 times the cores of this machine"),
                           ({"threads": 65}, "--workers 1 with --threads 65: expected at most 64 in all"),
                           ({"workers": 8, "threads": 9}, "expected at most 64 in all, 32 times the cores")):
        with pytest.raises(UserError, match=message):
            Request(**asked).check()
    Request(threads=512, launcher="ray").check()  # on the machines of a cluster


@pytest.mark.parametrize("flag", ["calib", "limit", "batch-size", "workers", "threads", "save-images", "gpus-per-run"])
@pytest.mark.parametrize("text", ["nan", "inf", "1e309", "1" + "0" * 30, "-1", "", "1_0", "\u0663", "9" * 5000, "x",
                                  "--"])
def test_numbers_of_flags_as_typed(flag, text):
    with pytest.raises(UserError, match=rf"--{flag}[ :].*expected ") as error:
        read([f"--{flag}={text}"])
    assert len(str(error.value)) < 300


def test_bits_as_papers_write_them():
    assert Request(bits="W4A4, w3/a8,w4a32").bit_widths() == [Bits(4, 4), Bits(3, 8), Bits(4, 32)]


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="is a folder: give the file in it"):
        Request(weights=str(tmp_path)).check()
    (tmp_path / "deit.pth").touch()
    with pytest.raises(UserError, match="did you mean '.*deit.pth'"):
        Request(weights=str(tmp_path / "deti.pth")).check()


@pytest.mark.parametrize(("label", "raises", "message"), [
    ("mine", RuntimeError("no\nGPU"), "task 'mine' of package 'third' cannot be opened: RuntimeError: no$"),
    ("imagenet", None, "task 'mine' calls itself 'imagenet': expected mine or mine-... as its label")])
def test_a_task_of_another_package(monkeypatch, label, raises, message):
    class Mine:
        options = ()

        def __init__(self, data, strict):
            self.label = label
            if raises:
                raise raises

    monkeypatch.setattr(TASKS, "get", lambda name: Mine)
    monkeypatch.setattr(TASKS, "owner", lambda name: "package 'third'")
    with pytest.raises(UserError, match=message):
        Request(task="mine").open_task("mine")


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(TASKS.get("imagenet"), "__init__", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Request().open_task("imagenet")


def test_weights_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("loop", "loop"), ("zero", "/dev/zero"), ("gone", "nothing")):
        (tmp_path / name).symlink_to(target)
    for name in ("pipe", "loop", "zero", "gone"):
        with pytest.raises(UserError, match=f"--weights '.*{name}' is no regular file: a pipe, a device, or a link"):
            Request(weights=str(tmp_path / name)).check()
    with pytest.raises(UserError, match="is a folder: give the file in it"):
        Request(weights=str(tmp_path)).check()
    with pytest.raises(UserError, match="weights file '.*pip' does not exist: did you mean '.*pipe'"):
        Request(weights=str(tmp_path / "pip")).check()
    (tmp_path / "file").write_text("")
    Request(weights=str(tmp_path / "file")).check()
