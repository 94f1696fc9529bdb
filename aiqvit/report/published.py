"""Published numbers beside ours: `published.csv` beside this file, each with the paper that prints it.

Figures for the same baseline differ by tens of points between papers, so every source is shown. A row of the AIQViT
paper's Tables 1 to 6 has its number under `table`; `variant` holds settings that differ from the method as published,
and `note` what stands in the way of a comparison, another checkpoint for example.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

PATH = Path(__file__).parent / "published.csv"


@cache
def rows() -> tuple[dict[str, str], ...]:
    """Every published number: method, variant, task, model, bits, metric, value, fp32, source, table, note."""
    with PATH.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def changes(task: str, model: str, method: str, bits: str, metric: str, variant: str = "") -> dict[str, float]:
    """Source -> change from that source's own full precision, in points of `metric`."""
    wanted = (task, model, method, bits, metric, variant)
    return {r["source"]: float(r["value"]) - float(r["fp32"]) for r in rows()
            if (r["task"], r["model"], r["method"], r["bits"], r["metric"], r["variant"]) == wanted}


@cache
def printed(table: int) -> dict[tuple[str, ...], dict[str, str]]:
    """(model, method, variant, bits, metric) -> row of the AIQViT paper's Table 1 to 6."""
    return {(r["model"], r["method"], r["variant"], r["bits"], r["metric"]): r
            for r in rows() if r["table"] == str(table)}
