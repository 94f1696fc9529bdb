"""Published numbers beside ours: `published.csv` beside this file, each with the paper that prints it.

Figures for the same baseline differ by tens of points between papers, so every source is shown. A row of the AIQViT
paper's Tables 1 to 6 has its number under `table`; `variant` holds settings that differ from the method as published,
and `note` what stands in the way of a comparison, another checkpoint for example.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, with_config
from typing_extensions import TypedDict

from aiqvit.interfaces import UserError
from aiqvit.io.structure import checked
from aiqvit.io.text import read_text

PATH = Path(__file__).parent / "published.csv"
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
Percent = Annotated[str, StringConstraints(pattern=r"^\d{1,3}(\.\d{1,4})?$")]


@with_config({"extra": "forbid"})
class Row(TypedDict):
    """One number as printed, and the source's own full precision."""

    method: Text
    variant: str
    task: Text
    model: Text
    bits: Annotated[str, StringConstraints(pattern=r"^\d{1,2}/\d{1,2}$")]
    metric: Text
    value: Percent
    fp32: Percent
    source: Text
    table: Annotated[str, StringConstraints(pattern="^[1-6]?$")]
    note: str


@cache
def rows() -> tuple[Row, ...]:
    """Every published number. Raises `UserError` with the line of a row that is not one."""
    return read(PATH)


def read(path: Path) -> tuple[Row, ...]:
    """The rows of such a file. Raises `UserError` with the line of a row that does not fit or is there twice."""
    found: dict[tuple[str, ...], Row] = {}
    for line, row in _lines(path):
        try:
            row = checked(row, Row)
        except ValueError as error:
            raise UserError(f"{str(path)!r}, line {line}: {error}") from error
        what = tuple(text for name, text in row.items() if name not in ("value", "fp32", "note"))
        if what in found:
            raise UserError(f"{str(path)!r}, line {line}: {row['source']} has this number on a line above already")
        found[what] = row
    return tuple(found.values())


def _lines(path: Path) -> Iterator[tuple[int, dict]]:
    """(number of the line, the row) of a CSV file with headings. Raises `UserError` when it cannot be read."""
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
        for row in reader:
            yield reader.line_num, {"more than the headings" if name is None else name: value
                                    for name, value in row.items()}
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot read {str(path)!r}: {error}") from error


def changes(task: str, model: str, method: str, bits: str, metric: str, variant: str = "") -> dict[str, float]:
    """Source -> change from that source's own full precision, in points of `metric`."""
    wanted = (task, model, method, bits, metric, variant)
    return {r["source"]: float(r["value"]) - float(r["fp32"]) for r in rows()
            if (r["task"], r["model"], r["method"], r["bits"], r["metric"], r["variant"]) == wanted}


@cache
def printed(table: int) -> dict[tuple[str, ...], Row]:
    """(model, method, variant, bits, metric) -> row of the AIQViT paper's Table 1 to 6."""
    return {(r["model"], r["method"], r["variant"], r["bits"], r["metric"]): r
            for r in rows() if r["table"] == str(table)}
