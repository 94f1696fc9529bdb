"""Where intervals enter tables, and what bold means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from aiqvit.harness.store.records import Record

NOTHING = "nothing"  # is what an interval covers of which nothing can be said


class Interval(NamedTuple):
    """Of a metric; NaN where nothing can be said."""

    value: float
    low: float
    high: float
    basis: str  # what it covers: samples and seeds, ...


class Intervals(Protocol):
    """Statistics of runs, which are records as `records.load` gives them."""

    level: float  # of confidence: 0.95
    shown: bool  # whether cells have them; what is bold follows them anyway

    def of(self, runs: Sequence[Record], metric: str) -> Interval:
        """Of the mean over the runs of a cell, which differ by their seeds."""

    def indistinguishable(self, best: Sequence[Record], others: Sequence[Sequence[Record]], metric: str) -> list[bool]:
        """For each of the other cells, whether nothing tells it from the best; False where nothing can be said."""


def note(intervals: Intervals | None, cells: Iterable[tuple[str, str]] = ()) -> str:
    """The footnote on bold numbers and, where they are shown, on intervals; `cells` are (metric, what it covers)."""
    if intervals is None:
        return "bold: the best of its group, underlined: the second; nothing says whether they differ"
    level, cells = f"{100 * intervals.level:g} %", set(cells)
    unknown = sorted({metric for metric, basis in cells if basis == NOTHING} -
                     {metric for metric, basis in cells if basis not in ("", NOTHING)})
    said = f"bold: not distinguishable from the best of its group, by the {level} interval of the difference"
    if unknown:
        said += f" (of {', '.join(unknown)} none is known: the best alone)"
    if intervals.shown:
        said += (f"; in brackets: {level} interval, over samples and, where there are three seeds or more, over seeds "
                 "(docs/statistics.md)")
    if any("sums" in basis for _, basis in cells):
        said += "; runs without outcomes are compared by their sums: only large differences are told"
    return said
