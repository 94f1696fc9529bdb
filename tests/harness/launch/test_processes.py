"""Runs side by side give what runs one after the other give, and pick up where they were left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from aiqvit.bench import main
from aiqvit.harness.launch import machine, processes
from aiqvit.interfaces import UserError
from tests.conftest import MODEL


@pytest.fixture
def bench(imagenet, weights, tmp_path, monkeypatch):
    """Call the command with two real methods; `out` names the output folder."""
    monkeypatch.chdir(tmp_path)

    def call(out: str, *arguments: str) -> int:
        return main(["--data", str(imagenet), "--weights", str(weights), "--model", MODEL, "--method", "minmax,repqvit",
                     "--bits", "4/4", "--preset", "smoke", "--out", out, "--threads", "1", *arguments])

    return call


def contents(folder: str) -> dict[str, dict]:
    found = {path.name: json.loads(path.read_text()) for path in Path(folder, "runs").iterdir()}
    return {name: {key: r[key] for key in ("status", "spec", "metrics", "fp32", "log", "scheme")}
            for name, r in found.items()}


def test_records_are_those_of_one_process(bench, capsys, monkeypatch):
    monkeypatch.setattr(machine, "side_by_side", lambda: 2)
    assert bench("one") == 0
    capsys.readouterr()
    assert bench("two", "--workers", "auto") == 0
    printed = capsys.readouterr().out
    assert "3 runs, 2 side by side" in printed
    assert contents("one") == contents("two") and len(contents("two")) == 3
    assert len(re.findall(r"s to evaluate$", printed, re.M)) == 3 and "| 4/4" in printed
    assert bench("two", "--workers", "auto") == 0
    again = capsys.readouterr().out
    assert len(re.findall(r"done before", again)) == 3 and "side by side" not in again  # nothing is left


def test_threads_are_part_of_the_identity(bench):
    assert bench("one") == bench("one", "--threads", "2") == 0
    assert sorted(r["spec"]["threads"] for r in contents("one").values()) == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("flag", ("--workers", "--threads"))
def test_less_than_one_is_refused(bench, flag, capsys):
    assert bench("one", flag, "0") == 2
    assert f"{flag} 0: expected a whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ("1", "2"))
def test_what_a_kill_behind_the_record_left_is_removed(bench, workers):
    assert bench("one", "--method", "fp32") == 0
    (run,) = (path.stem for path in Path("one", "runs").iterdir())
    partial = Path("one", "partial")
    (partial / run).mkdir()
    (partial / run / "head.pt").touch()
    (partial / f"{run}.lock").touch()
    assert bench("one", "--method", "fp32", "--workers", workers) == 0
    assert list(partial.iterdir()) == []


@pytest.mark.parametrize("error", [BlockingIOError(11, "Resource temporarily unavailable"), OSError(12, "no memory"),
                                   RuntimeError("can't start new thread")], ids=repr)
def test_a_worker_that_cannot_be_started_is_one_sentence(error, bench, monkeypatch, capsys):
    def refused(*_, **__):
        raise error

    monkeypatch.setattr("concurrent.futures.process.ProcessPoolExecutor.submit", refused)
    assert bench("one", "--workers", "2") == 2
    assert "a worker process cannot be started: " in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_what_is_wrong_where_a_worker_starts_is_what_its_runs_end_in(monkeypatch):
    def gone(*_):
        raise UserError("data folder 'x' does not exist")

    made: list = []
    monkeypatch.setattr(processes, "_executor", made)
    monkeypatch.setattr(processes, "make_lasting", lambda: None)
    monkeypatch.setattr(processes.progress, "quiet", lambda: None)
    monkeypatch.setattr(processes.threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
    processes._start(SimpleNamespace(open_task=gone), "imagenet", None)
    with pytest.raises(UserError, match="'x' does not exist"):
        processes._run(None, None, "failed", False)
