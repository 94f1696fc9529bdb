"""Records as one tidy frame, a row a run and metric: every table, figure and page is a selection of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, nan
from typing import Any

import pandas as pd

from aiqvit.harness.store.records import Record
from aiqvit.harness.store.schema import COUNTS
from aiqvit.report.cells import Key
from aiqvit.report.marks import marks
from aiqvit.report.metrics import metric as about

CELL = ["model", "method", "variant", "bits", "metric"]  # what a number in a table is of
ABOUT = ["label", "id", "task", "preset", "limit", "seed", "status", "images", "calibration_images", "marks", "record"]
MEASURED = ["value", "change", "seconds", "peak_mib"]  # floats, NaN where undefined


def tidy(found: Mapping[Key, Sequence[Record]], metrics: Iterable[str] = ()) -> pd.DataFrame:
    """The runs of each cell (`cells.cells`) as a frame with the columns `CELL`, `ABOUT` and `MEASURED`.

    `change` is in points from full precision, `seconds` those of quantization; `record` is the record itself. A run
    that failed has a row for each of the metrics that others have, and of `metrics`.
    """
    every = recorded((r for runs in found.values() for r in runs), metrics) or [""]
    rows = [_row(key, record, metric) for key, runs in found.items() for record in runs
            for metric in (recorded([record]) if record["status"] == "done" else every)]
    return pd.DataFrame(rows, columns=[*CELL, *ABOUT, *MEASURED], dtype=object).astype(dict.fromkeys(MEASURED, float))


def recorded(records: Iterable[Record], first: Iterable[str] = ()) -> list[str]:
    """Names of the metrics of records in order, behind those of `first`; counts of samples are none."""
    names = dict.fromkeys([*first, *(name for record in records for name in record["metrics"])])
    return [name for name in names if name not in COUNTS]


def value(record: Record, metric: str) -> float:
    """NaN where the run has none, or one that is undefined because there was nothing to score."""
    found = record["metrics"].get(metric, nan)
    return found if isfinite(found) else nan


def change(record: Record, metric: str) -> float:
    """From full precision; NaN where that means nothing."""
    full = (record.get("fp32") or {}).get(metric, nan)
    return value(record, metric) - full if about(metric).change and isfinite(full) else nan


def _row(key: Key, record: Record, metric: str) -> dict[str, Any]:
    spec, done, peak = record["spec"], record["status"] == "done", record.get("peak_mib") or {}
    return {
        **dict(zip(CELL, (*key, metric), strict=True)),
        "label": record.get("label", ""), "id": record["id"], "task": spec.get("task"), "preset": spec.get("preset"),
        "limit": spec.get("limit"), "seed": spec.get("seed"), "status": record["status"],
        "images": record["metrics"].get("images"), "calibration_images": record["calibration_images"],
        "marks": marks([record]) if done else "", "record": record,
        "value": value(record, metric), "change": change(record, metric),
        "seconds": record["times"].get("quantize", nan) if done else nan,
        "peak_mib": peak.get("gpu", peak.get("rss", 0)) if done and peak else nan,
    }
