"""A sweep killed at random moments, run twice at once, or on a full disk ends with the numbers of one left alone.

`AIQVIT_KILLS=200` kills that often; `AIQVIT_SMALL_DISK=DIR`, a disk of some 20 MB, is filled again and again.
"""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from aiqvit.tasks.cache import folder_once
from PIL import Image

KILLS = int(os.environ.get("AIQVIT_KILLS", "6"))
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
FLAGS = ["--data", "mini", "--model", "mini_vit", "--method", "aiqvit,isvit", "--bits", "3/3", "--preset", "smoke",
         "--calib", "4", "--threads", "1", "--set", "init_images=2", "--set", "steps=2", "--format", "md,csv"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Where the mini data would be: a few random pictures in its place."""
    def write(draft: Path) -> None:
        rng = np.random.default_rng(0)
        for split in ("train", "val"):
            for wnid in ("n90000001", "n90000002"):
                (draft / split / wnid).mkdir(parents=True)
                for i in range(4):
                    pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(draft / split / wnid / f"{i}.png")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIQVIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return folder_once("mini-imagenet-v2", write).parent


@pytest.fixture(scope="module")
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


OWN = {"seconds", "times", "peak_mib", "started", "git", "checksum"}  # of a run: two of one spec need not share them


def untimed(value):
    """A record without `OWN`."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k not in OWN}
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
    before = set(out.glob("partial/*/*.unit"))
    while process.is_alive() and set(out.glob("partial/*/*.unit")) <= before:
        time.sleep(0.005)
    process.join(moments.uniform(0, 0.1 * length))


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory) -> tuple[dict, float]:
    """What a sweep that nobody disturbs leaves, and how long it takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    start(folder / "nothing", "--dry-run").join()  # now the process that others are forked from is ready
    began = time.monotonic()
    process = start(folder / "out")
    process.join()
    length = time.monotonic() - began
    assert process.exitcode == 0
    expected = contents(folder / "out")
    assert len(expected["records"]) == 3 and all(r["status"] == "done" for r in expected["records"].values())
    return expected, length


def test_killed_again_and_again_the_tables_are_those_of_an_undisturbed_run(start, undisturbed, tmp_path):
    (expected, length), moments, kills, ended, killed = undisturbed, random.Random(0), 0, [], True
    while kills < KILLS or killed:
        out = tmp_path / f"killed-{len(ended)}"
        process = start(out)
        wait(process, out, length, moments) if kills < KILLS else process.join()
        if killed := process.exitcode is None:
            os.kill(process.pid, moments.choice(SIGNALS))
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0, Path(f"{out}.log").read_text()
            assert contents(out) == expected
            ended.append(out)
    assert any("taken over from a run" in path.read_text() for path in tmp_path.glob("killed-*.log"))


@pytest.mark.parametrize("count", [2, 3] if "AIQVIT_KILLS" in os.environ else [2])
def test_several_on_one_folder_of_which_some_are_killed(start, undisturbed, tmp_path, count):
    (expected, length), moments, kills, rounds = undisturbed, random.Random(count), 0, 0
    while kills < KILLS // 3:
        out, rounds = tmp_path / f"shared-{rounds}", rounds + 1
        running, left = [start(out) for _ in range(count)], moments.randint(1, 8)
        while alive := [i for i, process in enumerate(running) if process.is_alive()]:
            victim = moments.choice(alive)
            wait(running[victim], out, length, moments) if left else running[victim].join()
            if running[victim].is_alive():
                os.kill(running[victim].pid, moments.choice(SIGNALS))
                running[victim].join()
                running[victim], kills, left = start(out), kills + 1, left - 1
        assert [process.exitcode for process in running] == [0] * count, Path(f"{out}.log").read_text()
        assert contents(out) == expected


@pytest.mark.skipif("AIQVIT_SMALL_DISK" not in os.environ, reason="no small disk that may be filled")
def test_a_disk_that_is_full_at_random_moments(start, undisturbed):
    (expected, length), moments = undisturbed, random.Random(0)
    root = Path(os.environ["AIQVIT_SMALL_DISK"])
    for number in range(KILLS):
        out, filler = root / f"out-{number}", root / "filler"
        process = start(out)
        process.join(moments.uniform(0, length))
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        process.join(moments.choice((0.5, 2, 60)) * length)
        filler.unlink()
        process.join()
        log = Path(f"{out}.log").read_text()
        assert process.exitcode in (0, 1, 2) and "Traceback" not in log and "not foreseen" not in log, log
        again = start(out)
        again.join()
        assert again.exitcode == 0 and contents(out) == expected, Path(f"{out}.log").read_text()
        shutil.rmtree(out)


def test_two_at_once_share_the_runs(start, tmp_path):
    out = tmp_path / "shared"
    both = [start(out), start(out)]
    for process in both:
        process.join()
    log = Path(f"{out}.log").read_text()
    assert [process.exitcode for process in both] == [0, 0], log
    assert len(contents(out)["records"]) == 3
    assert log.count("s to evaluate\n") == log.count("; done before\n") == 3  # each run once, by one of them
