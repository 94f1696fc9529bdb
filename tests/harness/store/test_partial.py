"""What is kept of a run that is killed, and what happens where it cannot be kept."""

import errno

import pytest
import torch

from aiqvit.harness.store.partial import Partial
from aiqvit.io import files as module

STATE = {"unit": {"": {"parameters": {"weight": torch.ones(2)}}}, "log": {"loss": torch.tensor(2.0), "kept": True}}


def test_units_come_back_in_another_process(tmp_path, capsys):
    first = Partial(tmp_path / "run")
    assert first.load("a") is None
    first.save("a", STATE)
    second = Partial(tmp_path / "run")
    found = second.load("a")
    assert torch.equal(found["unit"][""]["parameters"]["weight"], torch.ones(2))
    assert found["log"] == {"loss": 2.0, "kept": True} and second.units == 1
    assert second.load("b") is None and "was killed: 1 of its units" in capsys.readouterr().err
    second.clear()
    assert not (tmp_path / "run").exists()


def test_time_adds_up_over_processes(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("aiqvit.harness.store.partial.time.monotonic", lambda: now[0])
    first = Partial(tmp_path)
    now[0] += 30
    first.save("a", STATE)
    now[0] += 1000
    second = Partial(tmp_path)
    second.load("a")
    now[0] += 5
    assert second.seconds == 30 and second.spent() == 35


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x80\x02."])
def test_a_damaged_unit_ends_what_is_taken_over(tmp_path, content, capsys):
    for unit in "abc":
        Partial(tmp_path).save(unit, STATE)
    (tmp_path / "b.pt").write_bytes(content)
    again = Partial(tmp_path)
    assert again.load("a") and again.load("b") is None and again.load("c") is None
    assert "b.pt" in capsys.readouterr().err
    again.save("b", STATE)
    assert Partial(tmp_path).load("a") and Partial(tmp_path).load("b")


def test_nothing_that_names_code_is_loaded(tmp_path, capsys):
    torch.save({"seconds": 0.0, "unit": torch.nn.Linear(1, 1)}, tmp_path / "a.pt")
    assert Partial(tmp_path).load("a") is None and "skipping" in capsys.readouterr().err


def test_a_full_disk_is_told_once_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    partial = Partial(tmp_path)
    partial.save("a", STATE)
    partial.save("b", STATE)
    err = capsys.readouterr().err
    assert err.count("No space left on device") == 1 and "could not be resumed" in err
    assert list(tmp_path.iterdir()) == []


def test_units_of_another_source_are_not_taken_over(tmp_path, capsys):
    Partial(tmp_path, "today").save("a", STATE)
    assert Partial(tmp_path, "today").load("a")
    assert Partial(tmp_path, "tomorrow").load("a") is None and "another source made it" in capsys.readouterr().err
