"""A finished table, ready to be written in any format; and which of its numbers are best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from aiqvit.harness.store.records import Record
from aiqvit.report.intervals import Intervals
from aiqvit.report.metrics import metric as about


@dataclass(frozen=True)
class Cell:
    """One entry: its text, its value as printed, and whether it is bold (1) or underlined (2)."""

    text: str
    value: float | None = None
    metric: str = ""
    runs: Sequence[Record] = ()  # that it is made of
    numbers: Mapping[str, Any] = field(default_factory=dict)  # a line of the CSV, unrounded
    place: int = 0


@dataclass(frozen=True)
class Row:
    """Headings at the left and the cells beside them."""

    heads: tuple[str, ...]
    cells: tuple[Cell, ...]
    group: str = ""  # a rule stands between groups
    ranked: str = ""  # rows with the same name compete for bold; none for an empty one


@dataclass(frozen=True)
class Grid:
    """A finished table."""

    name: str  # file name without suffix
    caption: str
    stub: tuple[str, ...]  # headings of the leading columns
    columns: tuple[tuple[str, ...], ...]  # headings of each other column from the top, equally many
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()  # columns of the CSV, where they are not those of its lines

    @property
    def numbers(self) -> list[Mapping[str, Any]]:
        """The lines of the CSV."""
        return [cell.numbers for row in self.rows for cell in row.cells if cell.numbers]

    @property
    def header(self) -> list[str]:
        """The headings of all columns; those of several levels joined."""
        return [*self.stub, *map(" ".join, self.columns)]

    def frame(self, head: Callable[[str], str], cell: Callable[[str], str], styles: Sequence[str], rule: str = "",
              above: Sequence[str] = ()) -> pd.DataFrame:
        """The table as texts for one of pandas' writers, all escaped by `head` and `cell`.

        `styles` are forms of plain, bold and underlined cells; `rule` begins the rows in front of which a rule stands,
        and `above` the levels of headings but the first.
        """
        levels = max(map(len, self.columns))
        names = [*((*[""] * (levels - 1), name) for name in self.stub), *self.columns]
        names = [list(map(head, column)) for column in names]
        for level, text in enumerate(above, 1):
            names[0][level] = f"{text} {names[0][level]}"
        rows = [[*map(head, row.heads), *(styles[own.place].format(cell(own.text)) for own in row.cells)]
                for row in self.rows]
        for row, own, before in zip(rows[1:], self.rows[1:], self.rows, strict=False):
            row[0] = rule * (own.group != before.group) + row[0]
        index = pd.MultiIndex.from_arrays(list(zip(*names, strict=True))) if levels > 1 else [name for name, in names]
        return pd.DataFrame(rows, columns=index, dtype=object)


def measured(cell: Any, shown: str, decimals: int | None = None, numbers: Mapping[str, Any] | None = None) -> Cell:
    """A row of the summary under its text; it competes with its value as it is printed."""
    if cell is None or not cell.n:
        return Cell(shown, numbers=numbers or {})
    value = round(cell.value, about(cell.metric).decimals if decimals is None else decimals)
    return Cell(shown, value, cell.metric, cell.runs, numbers or {})


def ranked(rows: Sequence[Row], intervals: Intervals | None = None) -> tuple[Row, ...]:
    """The rows with `place` in their cells: for each column, of the rows that compete."""
    cells = [list(row.cells) for row in rows]
    for name in dict.fromkeys(row.ranked for row in rows if row.ranked):
        members = [i for i, row in enumerate(rows) if row.ranked == name]
        for column in range(len(rows[members[0]].cells)):
            rivals = [i for i in members if cells[i][column].value is not None]
            for i, place in zip(rivals, _places([cells[i][column] for i in rivals], intervals), strict=True):
                cells[i][column] = replace(cells[i][column], place=place)
    return tuple(replace(row, cells=tuple(own)) for row, own in zip(rows, cells, strict=True))


def _places(cells: Sequence[Cell], intervals: Intervals | None) -> list[int]:
    """1, bold, for what nothing tells from the best; where all are equal nothing is.

    Without statistics the best alone is bold and the second is underlined, 2, as in printed tables: equal values share
    a place, and the last of a group has none.
    """
    worth = [-cell.value if about(cell.metric).lower else cell.value for cell in cells]
    if len(set(worth)) < 2:
        return [0] * len(cells)
    ahead = [sum(other > own for other in worth) for own in worth]
    if intervals is None or not all(cell.runs for cell in cells):
        return [0 if own == min(worth) or n > 1 else n + 1 for own, n in zip(worth, ahead, strict=True)]
    best = cells[worth.index(max(worth))]
    alike = intervals.indistinguishable(best.runs, [cell.runs for cell in cells], best.metric)
    return [int(n == 0 or same) for n, same in zip(ahead, alike, strict=True)]
