"""A finished table as Markdown, CSV or HTML."""

from __future__ import annotations

import re
from html import escape

import pandas as pd

from aiqvit.io.escape import csv_cell, line
from aiqvit.io.escape import markdown as escaped
from aiqvit.report.grid import Grid

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{name}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; }}
table {{ border-collapse: collapse; border-block: 2px solid; }}
th, td {{ padding: .15rem .6rem; text-align: right; white-space: nowrap; }}
td:nth-child(-n+{stub}), thead tr:last-child th:nth-child(-n+{stub}) {{ text-align: left; }}
thead th {{ text-align: center; }} thead th[colspan]:not(:first-child) {{ border-bottom: 1px solid; }}
thead tr:last-child th {{ border-bottom: 1px solid; }} tr:has(.rule) td {{ border-top: 1px solid; }}
caption, li {{ text-align: left; max-width: 60rem; }}
</style>
{table}
<ul>{notes}</ul>
</html>
"""


def markdown(grid: Grid) -> str:
    """Columns padded, so that it reads well unrendered too; headings of several levels joined."""
    frame = grid.frame(escaped, escaped, ("{}", "**{}**", "<u>{}</u>"))
    rows = [list(map(escaped, grid.header)), *frame.to_numpy().tolist()]
    left, widths = len(grid.stub), [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)])
    lines = [[c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
             for row in rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    notes = "\n".join(f"- {escaped(note)}" for note in grid.notes)
    return f"{escaped(grid.caption)}.\n\n{table}\n\n{notes}\n"


def comma_separated(grid: Grid) -> str:
    """Unrounded, with what it takes to trace each number."""
    lines = [{name: csv_cell(value) for name, value in line.items()} for line in grid.numbers]
    fields = grid.fields or dict.fromkeys(name for line in lines for name in line)
    return pd.DataFrame(lines, columns=list(fields), dtype=object).to_csv(index=False, lineterminator="\n")


def html(grid: Grid) -> str:
    """A page with the table and its notes; needs nothing else."""
    notes = "".join(f"<li>{_text(note)}</li>" for note in grid.notes)
    return PAGE.format(name=escape(grid.name), stub=len(grid.stub), table=html_table(grid), notes=notes)


def html_table(grid: Grid, name: str = "grid") -> str:
    """The table as an element of the class `name`; the first cell of each further group holds one of class `rule`."""
    frame = grid.frame(_text, _text, ("{}", "<b>{}</b>", "<u>{}</u>"), '<span class="rule"></span>')
    caption = f"{_text(grid.caption)}." if grid.caption else None
    with pd.option_context("styler.render.max_elements", frame.size):  # otherwise rows of large tables are left out
        table = frame.style.hide(axis="index").to_html(caption=caption, exclude_styles=True)
    return table.replace("<table>", f'<table class="{name}">', 1)  # pandas gives one no class without styles


def _text(text: str) -> str:
    return re.sub(r"\^(\w+)", r"<sup>\1</sup>", escape(line(text)))
