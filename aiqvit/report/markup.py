"""A finished table as Markdown, CSV or HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from html import escape
from itertools import groupby

from aiqvit.io.escape import csv_cell, line
from aiqvit.io.escape import markdown as escaped
from aiqvit.report.grid import Cell, Grid

COLUMNS = ("table", "source", "model", "method", "variant", "bits", "metric", "value", "difference", "std", "n",
           "seeds", "preset", "limit", "images", "calibration_images", "run_ids", "marks")
STYLES = ("{}", "<b>{}</b>", "<u>{}</u>")
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{name}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; }}
table {{ border-collapse: collapse; border-block: 2px solid; }}
th, td {{ padding: .15rem .6rem; text-align: right; white-space: nowrap; }}
.head {{ text-align: left; }} thead th {{ text-align: center; }}
thead tr:last-child th, .rule td {{ border-top: 1px solid; }} thead tr:last-child th {{ border-bottom: 1px solid; }}
thead tr:only-child th {{ border-top: 0; }} caption, li {{ text-align: left; max-width: 60rem; }}
</style>
{body}
</html>
"""


def pipe_table(rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table of escaped cells, the first row its header, columns padded; the first `left` stand at the left.
    """
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = []
    for row in [rows[0], rule, *rows[1:]]:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def markdown(grid: Grid) -> str:
    """Best in bold, second underlined; headings of several levels joined."""
    def text(cell: Cell) -> str:
        return ("{}", "**{}**", "<u>{}</u>")[cell.place].format(escaped(cell.text))

    header = [escaped(head) for head in (*grid.stub, *(" ".join(heads) for heads in grid.columns))]
    rows = [[*map(escaped, row.heads), *map(text, row.cells)] for row in grid.rows]
    notes = "\n".join(f"- {escaped(note)}" for note in grid.notes)
    return f"{escaped(grid.caption)}.\n\n{pipe_table([header, *rows], len(grid.stub))}\n\n{notes}\n"


def comma_separated(grid: Grid) -> str:
    """One line a cell, unrounded, with what it takes to trace it; the first line says which table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in grid.numbers())
    return text.getvalue()


def html(grid: Grid) -> str:
    """A page with the table and its notes; needs nothing else."""
    return PAGE.format(name=escape(grid.name), body=html_table(grid))


def html_table(grid: Grid) -> str:
    """The table and its notes as elements for a page."""
    levels = max(map(len, grid.columns))
    lines = [f"<table>\n<caption>{_text(grid.caption)}.</caption>\n<thead>"]
    for level in range(levels):
        stub = [f'<th class="head" rowspan="{levels}">{_text(head)}</th>' for head in grid.stub] if not level else []
        spans = [f'<th colspan="{size}">{_text(head)}</th>' for head, size in spanned(grid, level)]
        lines.append(f"<tr>{''.join(stub + spans)}</tr>")
    lines.append("</thead>\n<tbody>")
    previous = grid.rows[0].group
    for row in grid.rows:
        rule = ' class="rule"' if row.group != previous else ""
        previous = row.group
        cells = "".join(f"<td>{STYLES[cell.place].format(_text(cell.text))}</td>" for cell in row.cells)
        heads = "".join(f'<td class="head">{_text(head)}</td>' for head in row.heads)
        lines.append(f"<tr{rule}>{heads}{cells}</tr>")
    notes = "".join(f"<li>{_text(note)}</li>" for note in grid.notes)
    return "\n".join([*lines, f"</tbody>\n</table>\n<ul>{notes}</ul>"])


def spanned(grid: Grid, level: int) -> list[tuple[str, int]]:
    """The headings of one level from the left, neighbours under the same headings joined, each with its width."""
    above = [heads[: level + 1] for heads in grid.columns]
    last = level == max(map(len, grid.columns)) - 1
    runs = enumerate(above) if last else ((key, key) for key in above)  # the lowest level is never joined
    return [(key[-1] if isinstance(key, tuple) else above[key][-1], len(list(run)))
            for key, run in groupby(runs, key=lambda pair: pair[0])]


def _text(text: str) -> str:
    return re.sub(r"\^(\w+)", r"<sup>\1</sup>", escape(line(text)))
