"""What the command line means."""

import os
import types

import pytest
import torch

from aiqvit.bench import read
from aiqvit.harness.launch import machine
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


def test_bits_where_none_are_typed():
    assert Request().bit_widths(REAL) == Request().bit_widths() == [Bits(3, 3), Bits(4, 4), Bits(6, 6)]
    assert Request().bit_widths(MINI) == [Bits(4, 4)]
    assert Request(bits="2/4").bit_widths(MINI) == [Bits(2, 4)]


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


def test_workers_and_threads_that_are_left_open(monkeypatch):
    monkeypatch.setattr(machine, "side_by_side", lambda: 6)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    given = {Request(): (6, 1), Request(threads=3): (2, 3), Request(threads=7): (1, 7), Request(workers=2): (2, 4),
             Request(workers=1): (1, 8), Request(workers=1, threads=1): (1, 1), Request(launcher="ray"): (1, 8)}
    for request, (workers, threads) in given.items():
        assert (request.workers_on("cpu", 50), request.threads_on("cpu")) == (workers, threads), request
    assert Request().workers_on("cpu", 2) == 2 and Request().workers_on("cpu", 0) == 1
    assert Request().workers_on("cuda:0", 50) == 1 and Request(workers=3).workers_on("cuda:0", 50) == 3


@pytest.mark.parametrize(("meminfo", "limit", "expected"), [
    ("MemTotal: 9 kB\nMemAvailable:   12582912 kB\n", None, 2),  # of 12 GiB
    ("MemAvailable: 12582912 kB", "max\n", 2), ("MemAvailable: 12582912 kB", f"{7 * 2**30}\n", 1),
    ("MemAvailable: 1024 kB", None, 1), (None, None, 16), ("", "", 16), (None, str(16 * 2**30), 3),
    ("MemAvailable: 999999999 kB", None, 16),
])
def test_side_by_side_go_as_many_as_cores_and_memory_allow(meminfo, limit, expected, tmp_path, monkeypatch):
    for name, text in (("MEMINFO", meminfo), ("LIMIT", limit)):
        monkeypatch.setattr(machine, name, tmp_path / name)
        if text is not None:
            (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "cores", lambda: 16)
    assert machine.side_by_side() == expected


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


def test_precision_is_a_switch_of_the_methods_that_train():
    found = {c.name: c.changed for c in Request(method="minmax,qdrop,glfq", precision="bf16").choices()}
    assert found == {"minmax": {}, "qdrop": {"bf16": True}, "glfq": {"bf16": True}}
    (choice,) = Request(method="glfq", precision="float32").choices()
    assert choice.changed == {"bf16": False}
    with pytest.raises(UserError, match="none of the chosen methods trains"):
        Request(method="minmax,repqvit", precision="bf16").choices()
    with pytest.raises(UserError, match="precision 'fp8': expected one of float32, bf16"):
        Request(precision="fp8").check()
