"""Published numbers beside ours: `results/published.csv`, each with the paper that prints it.

Figures for the same baseline differ by tens of points between papers, so every source is shown.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

PATH = Path(__file__).parents[2] / "results" / "published.csv"


@cache
def rows() -> tuple[dict[str, str], ...]:
    """Every published number: method, task, model, bits, metric, value, fp32, source; none without the file."""
    if not PATH.is_file():
        return ()
    with PATH.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def changes(task: str, model: str, method: str, bits: str, metric: str) -> dict[str, float]:
    """Source -> change from that source's own full precision, in points of `metric`."""
    wanted = (task, model, method, bits, metric)
    return {r["source"]: float(r["value"]) - float(r["fp32"]) for r in rows()
            if (r["task"], r["model"], r["method"], r["bits"], r["metric"]) == wanted}
