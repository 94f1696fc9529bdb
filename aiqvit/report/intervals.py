"""Where intervals enter tables: what is asked for, and what bold then means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from aiqvit.harness.store.records import Record
from aiqvit.interfaces import UserError


class Interval(NamedTuple):
    """Of a metric; NaN where nothing can be said."""

    value: float
    low: float
    high: float
    basis: str  # what it covers: samples and seeds, ...


class Intervals(Protocol):
    """Statistics of runs, which are records as `records.load` gives them."""

    level: float  # of confidence: 0.95

    def of(self, runs: Sequence[Record], metric: str) -> Interval:
        """Of the mean over the runs of a cell, which differ by their seeds."""

    def indistinguishable(self, best: Sequence[Record], others: Sequence[Sequence[Record]], metric: str) -> list[bool]:
        """For each of the other cells, whether nothing tells it from the best; False where nothing can be said."""


def asked(flag: bool) -> Intervals | None:
    """What `--intervals` asks for."""
    if not flag:
        return None
    raise UserError("--intervals: nothing here computes them")


def note(intervals: Intervals | None, bases: Iterable[str] = ()) -> str:
    """The footnote on bold numbers and, where they are known, on intervals and their bases."""
    if intervals is None:
        return ("bold: the best of its group, underlined: the second; nothing says whether they differ (--intervals "
                "does)")
    level, covered = f"{100 * intervals.level:g} %", ", ".join(dict.fromkeys(filter(None, bases)))
    return (f"bold: not distinguishable from the best of its group ({level} interval of the difference; where none is "
            f"known, the best alone), underlined: the first behind; in brackets: {level} interval"
            + (f" ({covered})" if covered else ""))
