"""A layout filled with numbers: the paper's, ours from records, or both with their difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record
from aiqvit.io.names import file_name
from aiqvit.report import footer
from aiqvit.report import numbers as numbers_of
from aiqvit.report.cells import Key, cells
from aiqvit.report.layouts import Layout, Line, layout, with_rows
from aiqvit.report.marks import marks
from aiqvit.report.published import printed
from aiqvit.report.records import Comparable

SOURCES = ("paper", "ours", "both")


@dataclass(frozen=True)
class Cell:
    """One entry: its text, its value as printed, and whether it is the best (1) or second (2) of its group."""

    text: str
    value: float | None = None
    place: int = 0
    numbers: Mapping[str, Any] = field(default_factory=dict)  # for the CSV


@dataclass(frozen=True)
class Row:
    """Headings at the left and the cells beside them."""

    heads: tuple[str, ...]
    cells: tuple[Cell, ...]
    group: str
    ranked: str = ""  # rows with the same name compete for bold; none for an empty one


@dataclass(frozen=True)
class Grid:
    """A finished table, ready to be written in any format."""

    name: str  # file name without suffix
    caption: str
    stub: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]  # headings of each column from the top
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def numbers(self) -> list[dict[str, Any]]:
        """One dictionary a cell that holds a number, for CSV; the difference is in the row of ours."""
        return [dict(cell.numbers) for row in self.rows for cell in row.cells if cell.numbers]


def paper(number: int) -> Grid:
    """The AIQViT paper's Table 1 to 6 as printed."""
    table = layout(number)
    rows = [Row(line.heads, tuple(_paper_cell(table, line, column) for column in table.columns), line.group,
                _rank_group(line)) for line in table.rows]
    return Grid(f"table{number}-paper", f"{table.caption}. As printed in the AIQViT paper, Table {number}", table.stub,
                _heads(table), _placed(rows), tuple(footer.of_paper(table)))


def ours(number: int, part: Comparable, methods: Mapping[str, tuple[str, str]], beside: bool = False) -> Grid:
    """The same table from the records of one part, with rows for all other methods that were measured.

    `methods` maps registered names to (title, note) in display order. With `beside` each row is followed by the
    paper's and the difference, ours minus the paper's.
    """
    embedded = part.task != layout(number).task
    found = cells(part.records)
    models = list(dict.fromkeys(model for model, *_ in found))
    table = layout(number, models if embedded else None)
    table = _relabelled(_extended(table, found, methods), methods)
    rows = []
    for line in table.rows:
        own = tuple(_own_cell(table, found, line, column) for column in table.columns)
        if not beside:
            rows.append(Row(line.heads, own, line.group, _rank_group(line)))
            continue
        theirs = tuple(_paper_cell(table, line, column) for column in table.columns)
        if all(cell.value is None for cell in theirs):
            rows.append(Row((*line.heads, "ours"), own, line.group, f"{_rank_group(line)} ours"))
            continue
        differences = tuple(_difference(a, b, table.decimals) for a, b in zip(own, theirs, strict=True))
        own = tuple(replace(a, numbers=a.numbers and {**a.numbers, "difference": d.value})
                    for a, d in zip(own, differences, strict=True))
        for source, entries in (("paper", theirs), ("ours", own), ("difference", differences)):
            group = _rank_group(line) and f"{_rank_group(line)} {source}"
            rows.append(Row((*line.heads, source), entries, line.group, "" if source == "difference" else group))
    used = [r for line in table.rows for column in table.columns for r in found.get(_key(line, column)[:4], [])]
    notes = footer.of_records(table, part, found, {r["id"]: r for r in used}, methods)
    if beside:
        notes = [*(n for n in footer.of_paper(table) if n not in notes), *notes]
    mark = "".join(f"{warning[0].upper()}{warning[1:]}. " for warning in footer.warnings(part))
    name = file_name("-".join([f"table{number}", "both" if beside else "ours", part.name]))
    caption = f"{mark}{table.caption}" + (" (embedded mini data instead of the real set)" if embedded else "")
    stub = (*table.stub, "Source") if beside else table.stub
    return Grid(name, caption, stub, _heads(table), _placed(rows), tuple(notes))


def _key(line: Line, column: Line) -> tuple[str, str, str, str, str]:
    both = {**line.key, **column.key}
    return both["model"], both["method"], both["variant"], both["bits"], both["metric"]


def _heads(table: Layout) -> tuple[tuple[str, ...], ...]:
    return tuple(column.heads for column in table.columns)


def _rank_group(line: Line) -> str:
    return "" if line.key["method"] == REFERENCE else line.group or "all"


def _numbers(table: Layout, where: Sequence[str], source: str) -> dict[str, Any]:
    names = ("model", "method", "variant", "bits", "metric")
    return {"table": table.number, "source": source, **dict(zip(names, where, strict=True))}


def _paper_cell(table: Layout, line: Line, column: Line) -> Cell:
    where = _key(line, column)
    row = printed(table.number).get(where)
    if row is None:
        return Cell("—")
    return Cell(row["value"], float(row["value"]),
                numbers={**_numbers(table, where, "paper"), "value": float(row["value"])})


def _own_cell(table: Layout, found: Mapping[Key, list[Record]], line: Line, column: Line) -> Cell:
    *where, metric = _key(line, column)
    records = found.get(tuple(where), [])
    done = [r for r in records if r["status"] == "done" and metric in r["metrics"]]
    if not done:
        return Cell("failed" if records else "—")
    values = numbers_of.values(done, metric)
    if not values:
        return Cell(numbers_of.UNDEFINED)
    spread = numbers_of.spread(values)
    text = f"{mean(values):.{table.decimals}f}"
    numbers = {**_numbers(table, (*where, metric), "ours"), "value": mean(values), "std": spread, "n": len(values),
               "seeds": " ".join(str(r["spec"]["seed"]) for r in done), "preset": done[0]["spec"]["preset"],
               "limit": done[0]["spec"]["limit"], "images": done[0]["metrics"].get("images"),
               "calibration_images": done[0]["calibration_images"], "run_ids": " ".join(r["id"] for r in done),
               "marks": marks(done)}
    shown = text if spread is None else f"{text} ± {spread:.{table.decimals}f} ({len(values)})"
    return Cell(shown + marks(done), float(text), numbers=numbers)


def _difference(own: Cell, theirs: Cell, decimals: int) -> Cell:
    if own.value is None or theirs.value is None:
        return Cell("—")
    value = round(own.value - theirs.value, decimals) + 0.0  # never -0.0
    return Cell(f"{value:+.{decimals}f}", value)


def _extended(table: Layout, found: Mapping[Key, list[Record]], methods: Mapping[str, tuple[str, str]]) -> Layout:
    if not table.compares:
        return table
    have = {(line.key["method"], line.key["bits"]) for line in table.rows}
    shown = {column.key["model"] for column in table.columns}
    more = {(method, bits): records[0]["label"] for (model, method, variant, bits), records in found.items()
            if model in shown and not variant and (method, bits) not in have}
    order = {method: i for i, method in enumerate(methods)}
    ordered = sorted(more, key=lambda pair: (order.get(pair[0], len(order)), pair[0]))
    return with_rows(table, [(method, more[method, bits], bits) for method, bits in ordered])


def _relabelled(table: Layout, methods: Mapping[str, tuple[str, str]]) -> Layout:
    """Methods under the titles that they have here, each with the letter of its note."""
    if not table.compares:
        return table
    letters = footer.letters(table, methods)
    rows = []
    for line in table.rows:
        name = line.key["method"]
        title = methods[name][0] if name in methods else line.heads[0]
        mark = f"^{letters[name]}" if name in letters else ""
        rows.append(replace(line, heads=(title + mark, *line.heads[1:])))
    return replace(table, rows=tuple(rows))


def _placed(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with the best and the second value of every column and group marked; equal values share a place."""
    placed = []
    for row in rows:
        rivals = [r for r in rows if row.ranked and r.ranked == row.ranked]
        marked = []
        for i, cell in enumerate(row.cells):
            values = [r.cells[i].value for r in rivals if r.cells[i].value is not None]
            ahead = sum(value > cell.value for value in values) if cell.value in values else len(values)
            worst = cell.value is None or not values or cell.value == min(values)  # the last of a group is neither
            marked.append(replace(cell, place=0 if worst or ahead > 1 else ahead + 1))
        placed.append(replace(row, cells=tuple(marked)))
    return tuple(placed)
