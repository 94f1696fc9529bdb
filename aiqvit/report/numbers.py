"""Numbers of records: a metric that is undefined, because there was nothing to score, is not one."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

from aiqvit.harness.store.records import Record
from aiqvit.report.metrics import metric as about

LARGEST = 1e12  # of a number on an axis
UNDEFINED = "-"  # in a table, for a metric that no sample defines
NOTE = f"{UNDEFINED}: undefined, there is nothing to score it by"


def values(records: Iterable[Record], metric: str) -> list[float]:
    """The defined values of a metric of records that have it."""
    return [r["metrics"][metric] for r in records if isfinite(r["metrics"].get(metric, float("nan")))]


def changes(records: Iterable[Record], metric: str) -> list[float]:
    """The same, minus those of full precision; none of a metric that compares with full precision itself."""
    if not about(metric).change:
        return []
    found = ((r["metrics"].get(metric), (r.get("fp32") or {}).get(metric)) for r in records)
    return [ours - theirs for ours, theirs in found if ours is not None and theirs is not None
            and isfinite(ours - theirs)]


def drawable(value: object) -> float | None:
    """A logged value as a number that an axis can show, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    return float(value) if good and isfinite(value) else None


def any_undefined(records: Iterable[Record], metrics: Iterable[str]) -> bool:
    """Whether a record that ended well has a metric that is undefined."""
    metrics, done = list(metrics), [r for r in records if r["status"] == "done"]
    return any(not isfinite(r["metrics"].get(metric, 0)) for r in done for metric in metrics)
