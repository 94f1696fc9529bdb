"""Whether a value that was read is the record of a run, as it was written; if not, why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiqvit.harness.identity.labels import BITS, INPUTS
from aiqvit.harness.identity.spec import REFERENCE, run_id
from aiqvit.harness.store.schema import FORMAT, Schema, checksum
from aiqvit.interfaces import Bits
from aiqvit.io.structure import checked

FULL = "32/32"  # bits of full precision


def fault(record: Any, run: str) -> str:
    """Why a JSON value is not the record of this run; empty when it is."""
    if not isinstance(record, dict) or record.get("id") != run:
        return "it is not the record of this run"
    newer = record.get("format")
    if isinstance(newer, int) and newer > FORMAT:
        return f"it has format {newer}, of a newer version of aiqvit"
    try:
        checked(record, Schema)
        return _inconsistency(record)
    except ValueError as error:  # the second also for 1e999 in a field that nothing reads
        return str(error)


def signed(record: Mapping[str, Any]) -> bool:
    """Whether it has a checksum. Records of before, whose specs no run has any more, have none: nothing tells whether
    their numbers were changed."""
    return "checksum" in record


def revived(record: dict[str, Any]) -> dict[str, Any]:
    """The record with numbers that are not finite, which are stored as text, as numbers again."""
    again = {name: {k: _number(v) for k, v in record[name].items()} for name in ("metrics", "fp32", "times")
             if isinstance(record.get(name), dict)}
    return {**record, **again}


def _inconsistency(record: dict[str, Any]) -> str:
    """What contradicts itself in a record whose fields have the right types."""
    if record["id"] != (real := run_id(record["spec"])):
        return f"its spec is that of another run, {real}"
    if ("format" in record) != signed(record) or not (signed(record) or "code" in record["spec"]):
        return "its checksum is missing"
    if signed(record) and record["checksum"] != checksum(record):
        return "it was changed after it was written: its checksum is another"
    if reason := _no_bits(record["spec"]):
        return reason
    if lacking := [name for name in record["spec"]["settings"] if not name.startswith((BITS, INPUTS))
                   and name not in record.get("defaults", (name,))]:
        return f"its defaults have no {lacking[0]}"
    if not {"defaults", "label"} & record.keys():
        return "it has neither defaults nor a label"
    if record["status"] == "failed":
        return "" if "error" in record else "it failed, but has no error"
    lacking = [name for name in ("quantize", "evaluate") if name not in record["times"]]
    if lacking or not record["metrics"]:
        return f"it has no {', '.join([f'times.{name}' for name in lacking] or ['metrics'])}"
    return ""


def _no_bits(spec: Mapping[str, Any]) -> str:
    """Why a spec has bits that no run of its method has; empty when it has others."""
    if spec["method"] == REFERENCE or spec["bits"] == FULL:
        good = (spec["method"], spec["bits"]) == (REFERENCE, FULL)
        return "" if good else f"its method {spec['method']} has the bits {spec['bits']}"
    Bits.parse(spec["bits"])
    return ""


def _number(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value
