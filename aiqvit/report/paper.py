"""The AIQViT paper's tables: a layout filled with the paper's numbers, ours from records, or both with differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.io.names import file_name
from aiqvit.report import footer
from aiqvit.report.cells import Key, cells
from aiqvit.report.frame import CELL, tidy
from aiqvit.report.grid import Cell, Grid, Row, measured, ranked
from aiqvit.report.intervals import Intervals, note
from aiqvit.report.layouts import Layout, Line, layout, with_methods
from aiqvit.report.published import printed
from aiqvit.report.records import About, Comparable
from aiqvit.report.summary import NONE, by_cell, summarise, text

SOURCES = ("paper", "ours", "both")
FIELDS = ("table", "source", *CELL, "value", "difference", "std", "low", "high", "basis", "n", "seeds", "preset",
          "limit", "images", "calibration_images", "run_ids", "marks")


def as_printed(number: int) -> Grid:
    """The AIQViT paper's Table 1 to 6 as printed."""
    table = layout(number)
    rows = [_row(line, [_printed(table, line, column) for column in table.columns]) for line in table.rows]
    return Grid(f"table{number}-paper", f"{table.caption}. As printed in the AIQViT paper, Table {number}", table.stub,
                _heads(table), ranked(rows), tuple(footer.of_paper(table)), FIELDS)


def ours(number: int, part: Comparable, methods: Mapping[str, About], beside: bool = False,
         intervals: Intervals | None = None) -> Grid:
    """The same table from the records of one part, with rows for all other methods that were measured.

    `methods` are by registered name in display order. With `beside` each row is followed by the
    paper's and the difference, ours minus the paper's.
    """
    embedded = part.task != layout(number).task
    found = cells(part.records)
    table = layout(number, list(dict.fromkeys(model for model, *_ in found)) if embedded else None)
    table = _extended(table, found, methods)
    places = dict.fromkeys(_key(line, column)[:-1] for line in table.rows for column in table.columns)
    used = {place: found[place] for place in places if place in found}
    metrics = [column.key["metric"] for column in table.columns]
    frame = tidy(used, metrics)
    summary = by_cell(summarise(frame[frame.metric.isin(metrics)], intervals))
    rows = [row for line in table.rows for row in _rows(table, line, summary, beside)]
    notes = footer.of_records(table, part, found, {r["id"]: r for runs in used.values() for r in runs}, methods)
    if beside:
        notes = [*(n for n in footer.of_paper(table) if n not in notes), *notes]
    said = note(intervals, ((cell.metric, cell.numbers.get("basis", "")) for row in rows for cell in row.cells))
    notes.append(said + ("; of the paper's numbers: the best in bold, the second underlined" if beside else ""))
    mark = "".join(f"{warning[0].upper()}{warning[1:]}. " for warning in footer.warnings(part))
    name = file_name("-".join([f"table{number}", "both" if beside else "ours", part.name]))
    caption = f"{mark}{table.caption}" + (" (embedded mini data instead of the real set)" if embedded else "")
    stub = (*table.stub, "Source") if beside else table.stub
    return Grid(name, caption, stub, _heads(table), ranked(rows, intervals), tuple(notes), FIELDS)


def _rows(table: Layout, line: Line, summary: Mapping[tuple[str, ...], Any], beside: bool) -> list[Row]:
    """Our row of a line; beside it the paper's, and the difference, where the paper has one."""
    own = [_own(table, line, column, summary) for column in table.columns]
    if not beside:
        return [_row(line, own)]
    theirs = [_printed(table, line, column) for column in table.columns]
    if all(cell.value is None for cell in theirs):
        return [_row(line, own, "ours")]
    between = [_difference(a, b, table.decimals) for a, b in zip(own, theirs, strict=True)]
    own = [replace(cell, numbers=cell.numbers and {**cell.numbers, "difference": gap.value})
           for cell, gap in zip(own, between, strict=True)]
    return [_row(line, theirs, "paper"), _row(line, own, "ours"), replace(_row(line, between, "difference"), ranked="")]


def _row(line: Line, entries: Sequence[Cell], source: str = "") -> Row:
    rivals = "" if line.key["method"] == REFERENCE else f"{line.group or 'all'} {source}"
    return Row((*line.heads, *filter(None, [source])), tuple(entries), line.group, rivals)


def _key(line: Line, column: Line) -> tuple[str, ...]:
    both = {**line.key, **column.key}
    return tuple(both[name] for name in CELL)


def _heads(table: Layout) -> tuple[tuple[str, ...], ...]:
    return tuple(column.heads for column in table.columns)


def _printed(table: Layout, line: Line, column: Line) -> Cell:
    where = _key(line, column)
    row = printed(table.number).get(where)
    if row is None:
        return Cell(NONE)
    numbers = {"table": table.number, "source": "paper", **dict(zip(CELL, where, strict=True))}
    return Cell(row["value"], float(row["value"]), where[-1], numbers={**numbers, "value": float(row["value"])})


def _own(table: Layout, line: Line, column: Line, summary: Mapping[tuple[str, ...], Any]) -> Cell:
    cell = summary.get(_key(line, column))
    shown = text(cell, table.decimals, "{}")
    if cell is None or not cell.n:
        return Cell(shown)
    spec = cell.runs[0]["spec"]
    numbers = {
        "table": table.number, "source": "ours", **{name: getattr(cell, name) for name in CELL}, "value": cell.value,
        "std": cell.value_std, "low": cell.low, "high": cell.high, "basis": cell.basis, "n": cell.n,
        "seeds": " ".join(str(r["spec"]["seed"]) for r in cell.runs), "preset": spec["preset"], "limit": spec["limit"],
        "images": cell.images, "calibration_images": cell.calibration_images,
        "run_ids": " ".join(r["id"] for r in cell.runs), "marks": cell.marks}
    return measured(cell, shown + cell.marks, table.decimals, numbers)


def _difference(own: Cell, theirs: Cell, decimals: int) -> Cell:
    if own.value is None or theirs.value is None:
        return Cell(NONE)
    value = round(own.value - theirs.value, decimals) + 0.0  # never -0.0
    return Cell(f"{value:+.{decimals}f}", value)


def _extended(table: Layout, found: Iterable[Key], methods: Mapping[str, About]) -> Layout:
    """With all methods that were measured, under the titles that they have here, each with the letter of its note."""
    if not table.compares:
        return table
    have = {(line.key["method"], line.key["bits"]) for line in table.rows}
    shown = {column.key["model"] for column in table.columns}
    more = {(method, bits) for model, method, variant, bits in found if model in shown and not variant} - have
    order = list(methods)
    table = with_methods(table, sorted(more, key=lambda pair: (
        order.index(pair[0]) if pair[0] in methods else len(order), *pair)))
    letters = footer.letters(table, methods)
    titles = {name: title + (f"^{letters[name]}" if name in letters else "") for name, (title, *_) in methods.items()}
    return replace(table, rows=tuple(replace(line, heads=(titles.get(line.key["method"], line.heads[0]),
                                                          *line.heads[1:])) for line in table.rows))
