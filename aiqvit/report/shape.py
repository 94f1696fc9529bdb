"""What tables, figures and the page read of a record where a store promises less; what does not fit is left out."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from aiqvit.harness.store.records import Record

LARGEST = 1e12  # of a metric, a time, a count: nothing that is measured is beyond it
NEEDED = {"spec", "metrics", "calibration_images", "times", "log", "scheme", "manifest", "data"}
SPEC = {"task", "data", "model", "method", "settings", "preset", "bits", "seed", "limit"}
CARD = ("role", "kind", "quantizer", "granularity", "note")  # texts of a scheme's row
KINDS = ("weight", "activation")


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
    data, manifest = record.get("data") or {}, record.get("manifest") or {}
    git = manifest.get("git")
    return {
        **record,
        "metrics": _numbers(record["metrics"]),
        "fp32": _numbers(record["fp32"]) if record.get("fp32") else None,
        "times": {key: min(value, LARGEST) for key, value in record["times"].items()},
        "scheme": [row for row in record.get("scheme") or () if _is_card(row)],
        "data": {**_of(data, int, ("val", "train")), **_texts(data, ("notes", "skipped"))},
        "manifest": {**_of(manifest, str, ("device", "python", "started", "source")),
                     "packages": _of(manifest.get("packages"), str),
                     "git": _of(git, str, ("commit",)) if isinstance(git, dict) else None},
        "coverage": _numbers(record.get("coverage")) | _of(record.get("coverage"), str),
        "peak_mib": _numbers(record.get("peak_mib")),
        "error": {"type": "unknown", "message": "", "traceback": ""} | _of(record.get("error"), str)
        if record["status"] == "failed" else None,
    }


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


def _of(values: Any, kind: type, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """A table without what is not of a kind: among all its fields, or among `names`, where the others stay."""
    if not isinstance(values, Mapping):
        return {}
    return {key: value for key, value in values.items() if (names and key not in names)
            or isinstance(value, kind) and not isinstance(value, bool)}


def _texts(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, list[str]]:
    """Lists of texts; a field of another type counts as an empty one."""
    found = {name: values.get(name) for name in names}
    return {name: [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
            for name, value in found.items()}


def _is_card(row: Any) -> bool:
    return (isinstance(row, Mapping) and all(isinstance(row.get(name), str) for name in CARD)
            and row["kind"] in KINDS and isinstance(row.get("bits"), int | str))
