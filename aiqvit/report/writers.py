"""The formats of a finished table."""

from __future__ import annotations

from aiqvit.interfaces import UserError
from aiqvit.report import latex, markup
from aiqvit.report.grid import Grid

FORMATS = {"md": markup.markdown, "csv": markup.comma_separated, "tex": latex.snippet, "html": markup.html}


def write(grid: Grid, kind: str) -> str:
    """The table as text of one of `FORMATS`. Raises `UserError` for another."""
    if kind not in FORMATS:
        raise UserError(f"format {kind!r}: expected one of {', '.join(FORMATS)}")
    return FORMATS[kind](grid)
