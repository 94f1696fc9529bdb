"""The samples of which two runs say something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aiqvit.interfaces import Outcomes, Task

OTHER = "other"
KINDS = ("right to wrong", "wrong to right", "worse", "better", OTHER)
A_SAMPLE = ("id", "count", "objects")  # arrays with a row a sample even where there are as many things as samples


@dataclass(frozen=True)
class Change:
    """A sample that changed."""

    index: int
    sample: str  # its name
    kind: str  # "right to wrong", "wrong to right"; "worse", "better"; "other"
    truth: str  # its label, empty where there is none
    said: tuple[str, str]  # by the first run and by the second

    @property
    def lines(self) -> tuple[str, ...]:
        """`val/b/3.png: class 285` and what each of the two said."""
        truth = f": {self.truth}" if self.truth else ""
        return f"{self.sample}{truth} ({self.kind})", f"first: {self.said[0]}", f"second: {self.said[1]}"


def changes(task: type[Task], ours: Outcomes, theirs: Outcomes) -> list[Change]:
    """From `ours` to `theirs`, on the same samples.

    Of classes in the order of evaluation, those that became right or wrong first; of anything else by how much the
    first metric of the sample alone moved.
    """
    classes = {"label", "top5"} <= ours.arrays.keys() & theirs.arrays.keys()
    return _classes(ours, theirs) if classes else _metric(task, ours, theirs)


def counts(found: list[Change]) -> str:
    """`12 right to wrong, 9 wrong to right, 30 other`."""
    kinds = Counter(change.kind for change in found)
    return ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind])


def right(outcomes: Outcomes) -> np.ndarray | None:
    """Whether the first class of each sample (N,) is its label; None where samples have no classes or no labels."""
    if not {"label", "top5"} <= outcomes.arrays.keys() or (outcomes.arrays["label"] < 0).any():
        return None
    return outcomes.arrays["top5"][:, 0] == outcomes.arrays["label"]


def _classes(ours: Outcomes, theirs: Outcomes) -> list[Change]:
    labels = [outcomes.arrays["label"] for outcomes in (ours, theirs)]  # outputs of two heads may be in another order
    said = [outcomes.arrays["top5"][:, 0] for outcomes in (ours, theirs)]
    hits = [first == label for first, label in zip(said, labels, strict=True)]
    moved = said[0] != said[1] if np.array_equal(*labels) else hits[0] != hits[1]
    kinds = np.where(hits[0] & ~hits[1], KINDS[0], np.where(hits[1] & ~hits[0], KINDS[1], OTHER))
    order = sorted(np.flatnonzero(moved), key=lambda i: (kinds[i] == OTHER, i))
    return [Change(int(i), ours.samples[i], str(kinds[i]), f"class {labels[0][i]}" if labels[0][i] >= 0 else "",
                   (f"class {said[0][i]}", f"class {said[1][i]}")) for i in order]


def _metric(task: type[Task], ours: Outcomes, theirs: Outcomes) -> list[Change]:
    name, one, other = task.metrics[0], single(ours), single(theirs)
    found = []
    for i, sample in enumerate(ours.samples):
        alone, beside = one(i), other(i)
        if all(np.array_equal(alone.arrays[k], beside.arrays[k], equal_nan=alone.arrays[k].dtype.kind == "f")
               for k in alone.arrays.keys() & beside.arrays.keys()):
            continue
        before, after = (float(task.score(outcomes, outcomes.once())[name][0]) for outcomes in (alone, beside))
        kind = "worse" if after < before else "better" if after > before else OTHER
        said = tuple(f"{name} {'-' if value != value else f'{value:.1f}'}" for value in (before, after))
        change = Change(i, sample, kind, "", said)
        found.append((kind == OTHER, -abs(after - before) if kind != OTHER else 0.0, i, change))
    return [change for *_, change in sorted(found)]


def single(outcomes: Outcomes) -> Callable[[int], Outcomes]:
    """The outcomes of single samples; of D things the rows that belong to one."""
    count = outcomes.arrays.get("count")
    ends = np.concatenate([[0], np.cumsum(count)]) if count is not None else None

    def part(i: int) -> Outcomes:
        rows = {name: slice(i, i + 1) if ends is None or name in A_SAMPLE else slice(ends[i], ends[i + 1])
                for name in outcomes.arrays}
        return Outcomes(outcomes.samples[i : i + 1], {name: outcomes.arrays[name][rows[name]] for name in rows})

    return part
