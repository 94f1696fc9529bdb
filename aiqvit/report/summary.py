"""The frame by cell: one row a model, method, variant, bits and metric, and its text in a table."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite, nan
from statistics import mean, stdev
from typing import Any

import pandas as pd

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.report.frame import CELL, MEASURED
from aiqvit.report.intervals import Interval, Intervals
from aiqvit.report.marks import PARTIAL, STALE
from aiqvit.report.metrics import metric

NONE, UNDEFINED = "—", "-"  # in a table: nothing was run; no sample defines the metric
UNDEFINED_NOTE = f"{UNDEFINED}: undefined, there is nothing to score it by"
UNKNOWN = Interval(nan, nan, nan, "")


def summarise(frame: pd.DataFrame, intervals: Intervals | None = None) -> pd.DataFrame:
    """A row a cell: means of `MEASURED` over its runs and their deviations (`value`, `value_std`, ...), and its runs.

    `n` runs have a value, `done` ended well, `failed` did not; `runs` are the records of those that ended well, `ids`
    those of all. `low`, `high` and `basis` are what `intervals` says, otherwise NaN and empty.
    """
    frame = frame.assign(done=frame.status == "done", failed=frame.status != "done")
    measured = {f"{name}{end}": (name, each) for name in MEASURED for end, each in (("", _mean), ("_std", _std))}
    cells = frame.groupby(CELL, sort=False).agg(
        **measured, n=("value", "count"), done=("done", "sum"), failed=("failed", "sum"), label=("label", "first"),
        images=("images", "first"), calibration_images=("calibration_images", "first"), ids=("id", " ".join),
        marks=("marks", _marks), runs=("record", _done)).reset_index()
    found = [intervals.of(runs, metric) if intervals and n else UNKNOWN
             for runs, metric, n in zip(cells.runs, cells.metric, cells.n, strict=True)]
    return cells.assign(shown=bool(intervals and intervals.shown),
                        **{name: [getattr(one, name) for one in found] for name in ("low", "high", "basis")})


def by_cell(summary: pd.DataFrame) -> dict[tuple[str, ...], Any]:
    """(model, method, variant, bits, metric) -> its row, a named tuple of the columns."""
    return dict(zip(summary[CELL].itertuples(index=False, name=None), summary.itertuples(index=False, name="Summary"),
                    strict=True))


def text(cell: Any, decimals: int | None = None, count: str = "", change: bool = False) -> str:
    """`71.23`; of several seeds `71.23 ± 0.20`, where an interval is shown `71.23 [69.90, 72.51]`; or what went wrong.

    In parentheses stand the number of several seeds, in the form `count`, and with `change` that from full precision.
    """
    if cell is None or not cell.n:
        return NONE if cell is None else UNDEFINED if cell.done else "failed"
    form = f"{{:.{metric(cell.metric).decimals if decimals is None else decimals}f}}"
    shown = form.format(cell.value)
    if cell.shown and isfinite(cell.low) and isfinite(cell.high):
        shown += f" [{form.format(cell.low)}, {form.format(cell.high)}]"
    elif cell.n > 1:
        shown += f" ± {form.format(cell.value_std)}"
    inside = [count.format(cell.n)] if count and cell.n > 1 else []
    if change and cell.method != REFERENCE and isfinite(cell.change):
        inside.append(f"{round(cell.change, 2) + 0.0:+.2f}")  # never -0.00
    return f"{shown} ({', '.join(inside)})" if inside else shown


def _mean(values: pd.Series) -> float:
    """Of the defined values, exactly rounded: the order of seeds changes no digit."""
    found = values.dropna().tolist()
    return mean(found) if found else nan


def _std(values: pd.Series) -> float:
    found = values.dropna().tolist()
    return stdev(found) if len(found) > 1 else nan


def _marks(texts: Iterable[str]) -> str:
    found = "".join(texts)
    return STALE * (STALE in found) + PARTIAL * (PARTIAL in found)


def _done(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["status"] == "done"]
