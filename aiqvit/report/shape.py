"""What tables, figures and the page read of a record where a store promises less; what does not fit is left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any

from aiqvit.harness.store.records import Record

LARGEST = 1e12  # of a metric, a time, a count: nothing that is measured is beyond it
NEEDED = {"spec", "metrics", "calibration_images", "times", "log", "scheme", "manifest", "data"}
SPEC = {"task", "data", "model", "method", "settings", "preset", "bits", "seed", "limit"}
CARD = ("role", "kind", "quantizer", "granularity", "note")  # texts of a scheme's row
KINDS = ("weight", "activation")
NO_ERROR = {"type": "unknown", "message": "", "traceback": ""}


def lacking(record: Record) -> str:
    """What of a record there must be for a report and is not; empty when it has all."""
    spec = record.get("spec")
    if missing := sorted(NEEDED - record.keys()) or sorted(SPEC - spec.keys() if isinstance(spec, dict) else SPEC):
        return f"it has no {', '.join(missing)}"
    beyond = [key for key in ("seed", "limit") if abs(spec[key] or 0) > LARGEST]
    beyond += ["calibration_images"] if not 0 <= record["calibration_images"] <= LARGEST else []
    return f"its {', '.join(beyond)} cannot be" if beyond else ""


def shaped(record: Record) -> Record:
    """The record with nothing in the fields below that is of another type or size than reports take; others stay."""
    data, manifest, failed = record["data"], record["manifest"], record["status"] == "failed"
    git = manifest.get("git")
    made = {
        **record,
        "metrics": _numbers(record["metrics"]),
        "fp32": _numbers(record["fp32"]) if record["fp32"] else None,
        "times": {key: min(value, LARGEST) for key, value in record["times"].items()},
        "scheme": [row for row in record.get("scheme", ()) if _is_card(row)],
        "data": {**_of(data, int, ("val", "train")), **_texts(data, ("notes", "skipped"))},
        "manifest": {**_of(manifest, str, ("device", "python", "started", "source")),
                     "packages": _of(manifest.get("packages"), str),
                     "git": _of(git, str, ("commit",)) if isinstance(git, dict) else None},
        "error": NO_ERROR | _of(record["error"], str) if failed else None,
    }
    if "coverage" in record:
        first = record["coverage"].get("first") if isinstance(record["coverage"], Mapping) else None
        made["coverage"] = _numbers(record["coverage"]) | ({"first": first} if isinstance(first, str) else {})
    if "peak_mib" in record:
        made["peak_mib"] = _numbers(record["peak_mib"])
    return made


def number(value: Any) -> float | None:
    """A number that can be drawn, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    return float(value) if good and isfinite(value) else None


def _numbers(values: Any) -> dict[str, float]:
    """Numbers of a table by name; those that are not finite stay, as they mean something undefined."""
    if not isinstance(values, Mapping):
        return {}
    return {key: value for key, value in values.items() if isinstance(value, int | float)
            and not isinstance(value, bool) and (abs(value) <= LARGEST or not _finite(value))}


def _finite(value: float) -> bool:
    return isinstance(value, int) or isfinite(value)


def _of(values: Any, kind: type, names: Collection[str] = ()) -> dict[str, Any]:
    """A table without the fields that are of another kind, or without those of these `names` that are."""
    if not isinstance(values, Mapping):
        return {}
    return {key: value for key, value in values.items() if names and key not in names
            or isinstance(value, kind) and not isinstance(value, bool)}


def _texts(values: Mapping[str, Any], names: Collection[str]) -> dict[str, list[str]]:
    """Those of the fields that are there, as lists of texts; what is no list is an empty one."""
    return {name: [text for text in values[name] if isinstance(text, str)] if isinstance(values[name], list) else []
            for name in names if name in values}


def _is_card(row: Any) -> bool:
    return (isinstance(row, Mapping) and all(isinstance(row.get(name), str) for name in CARD)
            and row["kind"] in KINDS and isinstance(row.get("bits"), int | str))
