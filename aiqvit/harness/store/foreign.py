"""Whether a JSON value is a record that everything behind it can work with; if not, why."""

from __future__ import annotations

import math
import re
from typing import Any

FIELDS = {  # that every record has; others, of a later version, do no harm
    "id": str, "status": str, "spec": dict, "metrics": dict, "fp32": dict | None, "times": dict,
    "calibration_images": int, "log": list, "scheme": list, "manifest": dict, "data": dict,
}

# `defaults`: the settings that the method had by itself; records of before have the `label` that follows from them.
# `coverage`: shares of multiply-accumulates `quantized`, `declared` to stay and `missed`, and the `first` one missed
OPTIONAL = {"label": str, "defaults": dict, "coverage": dict}

SPEC = {  # kinds of what a spec has, where it has it: which of them a report needs it says itself
    "task": str, "data": str, "model": str, "weights": str, "method": str, "settings": dict, "version": str,
    "preset": str, "bits": str, "seed": int, "limit": int | None, "device": str, "threads": int, "calibration": str,
}


def revived(record: dict[str, Any]) -> dict[str, Any]:
    """The record with numbers that are not finite, which are stored as text, as numbers again."""
    again = {name: {k: _number(v) for k, v in record[name].items()} for name in ("metrics", "fp32", "times")
             if isinstance(record.get(name), dict)}
    return {**record, **again}


def _number(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value


def fault(record: Any, run: str) -> str:
    """Why a JSON value is not the record of this run; empty when it is."""
    if not (isinstance(record, dict) and record.get("id") == run and record.get("status") in ("done", "failed")):
        return "it is not the record of this run"
    needed = {**FIELDS, "error": dict} if record["status"] == "failed" else FIELDS
    if missing := sorted(needed.keys() - record.keys()):
        return f"it has no {', '.join(missing)}"
    if not {"label", "defaults"} & record.keys():
        return "it has no defaults"
    kinds = needed | {name: kind for name, kind in OPTIONAL.items() if name in record}
    wrong = [name for name, kind in kinds.items() if not _is(record[name], kind)]
    if not record["metrics"] and record["status"] == "done":
        wrong.append("metrics")
    if not wrong:
        wrong = _wrong_inside(revived(record))
    return f"its field {wrong[0]!r} is empty or of another type" if wrong else ""


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)


def _wrong_inside(record: dict[str, Any]) -> list[str]:
    """Names of what has another type than tables, figures and reports take, one level down."""
    wrong = [f"{name}.{key}" for name in ("metrics", "fp32", "times") for key, value in (record[name] or {}).items()
             if not _is_number(value)]
    wrong += [f"times.{key}: {value}" for key, value in record["times"].items()
              if _is_number(value) and not (math.isfinite(value) and value >= 0)]
    spec = record["spec"]
    wrong += [f"spec.{key}" for key, kind in SPEC.items() if key in spec and not _is(spec[key], kind)]
    if isinstance(spec.get("bits"), str) and not re.fullmatch(r"\d{1,2}/\d{1,2}", spec["bits"]):
        wrong.append("spec.bits")
    wrong += [name for name in ("log", "scheme") if not all(isinstance(entry, dict) for entry in record[name])]
    skipped = record["data"].get("skipped", [])
    if not (isinstance(skipped, list) and all(isinstance(name, str) for name in skipped)):
        wrong.append("data.skipped")
    wrong += [f"manifest.{key}" for key in ("started", "source")
              if not isinstance(record["manifest"].get(key) or "", str)]
    if record["status"] == "failed":
        wrong += [f"error.{key}" for key in ("type", "message") if not isinstance(record["error"].get(key), str)]
    elif "quantize" not in record["times"] or "evaluate" not in record["times"]:
        wrong.append("times")
    return wrong


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
