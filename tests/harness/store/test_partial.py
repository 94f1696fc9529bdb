"""What is kept of a run that is killed, and what happens where it cannot be kept."""

import errno
import hashlib
import io
import json
import os
import random

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


def damaged(folder):
    """Three finished units, the second to be damaged, and its file."""
    for unit in "abc":
        Partial(folder).save(unit, STATE)
    return folder / "b.unit"


def assert_ends_with_b(folder, capsys, reason=""):
    again = Partial(folder)
    assert again.load("a") and again.load("b") is None and again.load("c") is None
    err = capsys.readouterr().err
    assert "b.unit" in err and reason in err and err.count("\n") == 1
    again.save("b", STATE)
    assert Partial(folder).load("a") and Partial(folder).load("b")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x80\x02.", b"\n" * 3])
def test_a_damaged_unit_ends_what_is_taken_over(tmp_path, content, capsys):
    damaged(tmp_path).write_bytes(content)
    assert_ends_with_b(tmp_path, capsys)


def test_every_flipped_bit_is_found(tmp_path, capsys):
    path, draw = damaged(tmp_path), random.Random(0)
    good = path.read_bytes()
    for place in [*range(120), *(draw.randrange(len(good)) for _ in range(80))]:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << draw.randrange(8)]) + good[place + 1:])
        again = Partial(tmp_path)
        assert again.load("a") and again.load("b") is None, place
    assert capsys.readouterr().err.count("b.unit") == 200


def test_a_unit_of_another_run_or_name_is_not_taken_over(tmp_path, capsys):
    path = damaged(tmp_path / "one")
    Partial(tmp_path / "two").save("b", STATE)
    path.write_bytes((tmp_path / "two" / "b.unit").read_bytes())
    assert_ends_with_b(tmp_path / "one", capsys, "another run made it")
    path.write_bytes((tmp_path / "one" / "a.unit").read_bytes())
    assert_ends_with_b(tmp_path / "one", capsys, "another unit made it")


def forged(path, header, state):
    """Write a file as somebody who knows the format would."""
    file = io.BytesIO()
    torch.save(state, file)
    rest = json.dumps(header).encode() + b"\n" + file.getvalue()
    path.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)


@pytest.mark.parametrize("change", [{"seconds": -1}, {"seconds": "1"}, {"unit": 3}, {"more": 1}], ids=str)
def test_a_header_of_another_kind(tmp_path, capsys, change):
    path = damaged(tmp_path)
    forged(path, {"run": tmp_path.name, "unit": "b", "source": "", "seconds": 1.0} | change, STATE)
    assert_ends_with_b(tmp_path, capsys, next(iter(change)))


def test_nothing_that_names_code_is_loaded(tmp_path, capsys):
    header = {"run": tmp_path.name, "unit": "b", "source": "", "seconds": 1.0}
    forged(damaged(tmp_path), header, {"unit": torch.nn.Linear(1, 1)})
    assert_ends_with_b(tmp_path, capsys)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_regular_file(tmp_path, capsys, make):
    path = damaged(tmp_path)
    path.unlink()
    make(path)
    again = Partial(tmp_path)
    assert again.load("a") and again.load("b") is None and "b.unit" in capsys.readouterr().err


def test_units_never_leave_their_folder(tmp_path):
    Partial(tmp_path / "run").save("../../x", STATE)
    assert [p.parent.name for p in tmp_path.rglob("*.unit")] == ["run"]
    assert Partial(tmp_path / "run").load("../../x")


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


def test_a_link_in_place_of_a_run_s_folder_is_not_followed(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "outside")
    Partial(tmp_path / "run").save("a", STATE)
    assert list((tmp_path / "outside").iterdir()) == [] and Partial(tmp_path / "run").load("a")
