"""What every method keeps on a mini model, as numbers of right answers: `python -m tests.reference` writes the file.

`tests/test_reference.py` compares them in CI, so that a change that moves numbers is either meant, and comes with a
raised version (`Method.version`, `Task.version` or `aiqvit.ENGINE_VERSION`) and a new file, or found. Arguments are
names of methods to measure again (default: all). `settings` of a row that is there are kept; those of a new method are
what it has of `QUICK`. Each row is measured at one thread, at two, and with narrower vector instructions (AVX2; a
processor with no wider ones shows nothing there): `tolerance` is twice what that moves, and at least one in fifty.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

PATH = Path(__file__).parent / "reference.csv"
TASK, MODEL, BITS, PRESET, OF = "imagenet", "mini_vit", ("3/3", "4/4"), "quick", 300
QUICK = {"images": 32, "steps": 20, "high_bit_steps": 20, "search_steps": 6, "init_images": 16, "score_images": 4,
         "rounds": 1, "mlp_steps": 40, "elements": 2**12, "widths": 20, "refreshes": 1}
CONDITIONS = ((1, ""), (2, ""), (1, "avx2"))  # threads, and the vector instructions that torch may use


@dataclass(frozen=True)
class Row:
    """A line of the file; numbers are of right answers."""

    method: str
    settings: str
    model: str
    bits: str
    preset: str
    version: str
    right: int
    of: int
    tolerance: int


def rows() -> list[Row]:
    """The file; none when there is none."""
    if not PATH.is_file():
        return []
    kinds = {"right": int, "of": int, "tolerance": int}
    with PATH.open(encoding="utf-8", newline="") as file:
        return [Row(**{k: kinds.get(k, str)(v) for k, v in line.items()}) for line in csv.DictReader(file)]


def settings(method: str) -> str:
    """What `QUICK` says of a method's fields, as typed between brackets."""
    from aiqvit.registry import METHODS

    have = {field.name for field in fields(METHODS.get(method))}
    return ",".join(f"{name}={value}" for name, value in QUICK.items() if name in have and method != "fp32")


def measured(method: str, typed: str, threads: int = 1) -> Iterator[Row]:
    """Run the method at each bit width (full precision once); tolerance 0."""
    from aiqvit.harness.launch.plan import plan
    from aiqvit.harness.launch.request import Request
    from aiqvit.harness.run import runner

    expression = f"{method}[{typed}]" if typed else method
    grid = plan(Request(task=TASK, method=expression, model=MODEL, bits=",".join(BITS), data="mini", preset=PRESET,
                        limit=OF, device="cpu", threads=threads), TASK)
    subject = grid.task.load(MODEL)
    for run in grid.runs:
        if run.spec.method == method:
            record = runner.run(run, grid.task, subject, "cpu", 100)
            assert record["status"] == "done", record["error"]["traceback"]
            right = round(record["metrics"]["top1"] * record["metrics"]["images"] / 100)
            yield Row(method, typed, MODEL, run.spec.bits, PRESET, run.spec.version, right,
                      record["metrics"]["images"], 0)


def regenerate(chosen: list[str]) -> None:
    """Write the file anew, with the rows of methods that are not chosen as they were."""
    from aiqvit.registry import METHODS

    kept = {row.method: row.settings for row in rows()}
    made = {(row.method, row.bits): row for row in rows() if row.method in METHODS.names()}
    for method in chosen or METHODS.names():
        typed = kept.get(METHODS.match(method)[0], settings(method))
        results = [_elsewhere(method, typed, *condition) for condition in CONDITIONS]
        for first, *others in zip(*results, strict=True):
            moved = max(abs(first.right - other.right) for other in others)
            tolerance = max(2 * moved, first.of // 50)
            made[method, first.bits] = Row(**{**vars(first), "tolerance": tolerance})
            print(f"{method} {first.bits}: {first.right} of {first.of}, +- {tolerance}", flush=True)
        _write(list(made.values()), METHODS.names())


def _write(made: list[Row], order: list[str]) -> None:
    with PATH.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(vars(row) for row in sorted(made, key=lambda row: (order.index(row.method), row.bits)))


def _elsewhere(method: str, typed: str, threads: int, instructions: str) -> list[Row]:
    """`measured` in a process of its own: torch reads which instructions it may use when it starts."""
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    environment |= {"ATEN_CPU_CAPABILITY": instructions} if instructions else {}
    command = [sys.executable, "-m", "tests.reference", "--measure", method, typed, str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=PATH.parents[1])
    if done.returncode:
        raise SystemExit(done.stderr)
    kinds = {"right": int, "of": int, "tolerance": int}
    lines = csv.reader(done.stdout.splitlines())
    return [Row(*(kinds.get(f.name, str)(v) for f, v in zip(fields(Row), line, strict=True))) for line in lines]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        csv.writer(sys.stdout, lineterminator="\n").writerows(
            vars(row).values() for row in measured(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        regenerate(sys.argv[1:])
