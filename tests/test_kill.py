"""A sweep killed at random moments, or run twice at once, ends with the numbers of one that nobody disturbed."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

KILLS = 20
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
FLAGS = ["--data", "mini", "--model", "mini_vit", "--method", "aiqvit,isvit", "--bits", "3/3", "--preset", "smoke",
         "--calib", "4", "--threads", "1", "--set", "init_images=2", "--set", "steps=2", "--format", "md,csv"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where the mini data would be: a few random pictures in its place."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for wnid in ("n90000001", "n90000002"):
            folder = tmp_path / "cache" / "mini-imagenet-v2" / split / wnid
            folder.mkdir(parents=True)
            for i in range(4):
                Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "cache"


@pytest.fixture
def start(cache):
    """Start the command in a process of its own, forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["aiqvit.command", "aiqvit.method", "aiqvit.baselines.isvit",
                                    "aiqvit.tasks.mini.imagenet"])

    def begin(out: Path, *more: str) -> multiprocessing.Process:
        flags = [*FLAGS, *more, "--out", str(out)]
        process = context.Process(target=command, args=(flags, str(cache), f"{out}.log"))
        process.start()
        return process

    return begin


def command(arguments: list[str], cache: str, log: str) -> None:
    from aiqvit.bench import main

    os.environ["AIQVIT_CACHE"] = cache
    with open(log, "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        sys.exit(main(arguments))


def untimed(value):
    """A record without what two runs need not share: times, memory, the time of day, the state of the checkout."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k not in ("seconds", "times", "peak_mib", "started", "git")}
    return [untimed(v) for v in value] if isinstance(value, list) else value


def contents(out: Path) -> dict:
    """All records, the table as printed and every number of it."""
    records = {p.name: untimed(json.loads(p.read_text())) for p in (out / "runs").iterdir() if p.name[0] != "."}
    (numbers,) = (out / "tables").glob("*.csv")
    rows = [{k: v for k, v in row.items() if k != "minutes"} for row in csv.DictReader(numbers.open())]
    (text,) = (out / "tables").glob("*.md")
    table = [line.rpartition("|")[0].rpartition("|")[0] or line for line in text.read_text().splitlines()]  # no minutes
    assert list((out / "partial").iterdir()) == []
    return {"records": records, "rows": rows, "table": table}


def wait(process: multiprocessing.Process, out: Path, length: float, moments: random.Random) -> None:
    """Let it run until a random moment, or until it has finished one more unit and a little longer."""
    if moments.random() < 0.5:
        process.join(moments.uniform(0, length))
        return
    before = set(out.glob("partial/*/*.pt"))
    while process.is_alive() and set(out.glob("partial/*/*.pt")) <= before:
        time.sleep(0.005)
    process.join(moments.uniform(0, 0.1 * length))


def test_killed_twenty_times_the_tables_are_those_of_an_undisturbed_run(start, tmp_path):
    start(tmp_path / "nothing", "--dry-run").join()  # now the process that others are forked from is ready
    began = time.monotonic()
    process = start(tmp_path / "undisturbed")
    process.join()
    length = time.monotonic() - began
    assert process.exitcode == 0
    expected = contents(tmp_path / "undisturbed")
    assert len(expected["records"]) == 3 and all(r["status"] == "done" for r in expected["records"].values())

    moments, kills, ended = random.Random(0), 0, []  # noqa: S311 -- moments of kills, no secret
    while kills < KILLS or not ended or process.exitcode != 0:
        out = tmp_path / f"killed-{len(ended)}"
        process = start(out)
        if kills < KILLS:
            wait(process, out, length, moments)
        else:
            process.join()
        if process.exitcode is None:
            os.kill(process.pid, moments.choice(SIGNALS))
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0, Path(f"{out}.log").read_text()
            assert contents(out) == expected
            ended.append(out)
    assert any("taken over from a run" in path.read_text() for path in tmp_path.glob("killed-*.log"))


def test_two_at_once_share_the_runs(start, tmp_path):
    out = tmp_path / "shared"
    both = [start(out), start(out)]
    for process in both:
        process.join()
    log = Path(f"{out}.log").read_text()
    assert [process.exitcode for process in both] == [0, 0], log
    assert len(contents(out)["records"]) == 3
    assert log.count("s to evaluate\n") == log.count("; done before\n") == 3  # each run once, by one of them
