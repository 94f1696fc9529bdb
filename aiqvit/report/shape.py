"""What tables, figures and the page read of a record where a store promises less; what does not fit is left out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from itertools import islice
from math import isfinite
from typing import Any

from aiqvit.harness.store.records import Record
from aiqvit.io.escape import line

LARGEST = 1e12  # of a metric, a time, a count: nothing that is measured is beyond it
LONGEST, MANY, ROWS = 5000, 64, 2000  # characters of a text, fields of a table, rows of a log: the rest is left out
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
    beyond = [name for name in ("seed", "limit") if abs(spec[name] or 0) > LARGEST]
    beyond += ["calibration_images"] if not 0 <= record["calibration_images"] <= LARGEST else []
    fields = {**spec, "id": record["id"], "label": record.get("label", "")}
    beyond += [name for name, value in fields.items()
               if len(json.dumps(value)) > (20 * LONGEST if name == "settings" else LONGEST)]  # bits of every layer
    return f"its {line(', '.join(beyond))[:200]} is larger than any run has" if beyond else ""


def shaped(record: Record) -> Record:
    """The record with nothing in the fields below that is of another type or size than reports take; others stay."""
    data, manifest, failed = record["data"], record["manifest"], record["status"] == "failed"
    git = manifest.get("git")
    made = {
        **record,
        "metrics": _numbers(record["metrics"]),
        "fp32": _numbers(record["fp32"]) if record["fp32"] else None,
        "times": {key: min(value, LARGEST) for key, value in record["times"].items()},
        "scheme": [row for row in record.get("scheme", ())[:ROWS] if _is_card(row)],
        "log": record.get("log", [])[:ROWS],
        "data": {**_of(data, int, ("val", "train")), **_texts(data, ("notes", "skipped"))},
        "manifest": {**_of(manifest, str, ("device", "python", "started", "source")),
                     "packages": _of(manifest.get("packages"), str),
                     "git": _of(git, str, ("commit",)) if isinstance(git, dict) else None},
        "error": NO_ERROR | _of(record["error"], str) if failed else None,
    }
    if "coverage" in record:
        first = record["coverage"].get("first") if isinstance(record["coverage"], Mapping) else None
        made["coverage"] = _numbers(record["coverage"]) | _of({"first": first}, str)
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
    return {key: value for key, value in islice(values.items(), MANY) if isinstance(value, int | float)
            and not isinstance(value, bool) and (abs(value) <= LARGEST or not _finite(value))}


def _finite(value: float) -> bool:
    return isinstance(value, int) or isfinite(value)


def _of(values: Any, kind: type, names: Collection[str] = ()) -> dict[str, Any]:
    """A table without the fields that are of another kind, or without those of these `names` that are."""
    if not isinstance(values, Mapping):
        return {}
    return {key: value[:LONGEST] if isinstance(value, str) else value for key, value in islice(values.items(), MANY)
            if names and key not in names or isinstance(value, kind) and not isinstance(value, bool)}


def _texts(values: Mapping[str, Any], names: Collection[str]) -> dict[str, list[str]]:
    """Those of the fields that are there, as lists of texts; what is no list is an empty one."""
    lists = {name: values[name] if isinstance(values[name], list) else [] for name in names if name in values}
    return {name: [text[:LONGEST] for text in texts if isinstance(text, str)] for name, texts in lists.items()}


def _is_card(row: Mapping[str, Any]) -> bool:
    texts = [row.get(name) for name in CARD]
    return (all(isinstance(text, str) and len(text) < LONGEST for text in texts)
            and row["kind"] in KINDS and isinstance(row.get("bits"), int | str))
