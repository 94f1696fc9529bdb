"""Marks behind numbers and their footnotes: other source than today's, parts left in full precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from aiqvit.harness.store.records import Record
from aiqvit.harness.store.trust import signed
from aiqvit.interfaces import Coverage

STALE, PARTIAL = "†", "‡"
MISSED = 0.01  # share of multiply-accumulates that may be left out unmarked
STALE_NOTE = f"{STALE}: the source of the method or the task has changed since; bench --stale runs it again"


def marks(records: Iterable[Record]) -> str:
    """The marks of numbers made of these records; `stale` is in a record that came through `records.load`."""
    records = list(records)
    return STALE * any(r.get("stale") for r in records) + PARTIAL * any(map(_partial, records))


def notes(records: Iterable[Record]) -> list[str]:
    """A footnote for each mark, one a model and method for what is left out; and how many records have no checksum."""
    records = list(records)
    found = [STALE_NOTE] if any(r.get("stale") for r in records) else []
    if bare := sum(not signed(r) for r in records):
        found.append(f"{bare} of {len(records)} records are of before they had checksums: nothing tells whether their "
                     "numbers were changed")
    for record in filter(_partial, records):
        share, first = record["coverage"].get("quantized", 0), record["coverage"].get("first") or "not known"
        found.append(f"{PARTIAL} {record['spec'].get('model', '')}: partial: {100 * share:.1f} % of "
                     f"multiply-accumulates quantized, the first module left out is {first}")
    return list(dict.fromkeys(found))


def coverage(record: Record) -> str:
    """The first line of a scheme card; empty where it was not counted."""
    if not (found := record.get("coverage")):
        return ""
    return f"  {Coverage(**{f.name: found.get(f.name, 0) for f in fields(Coverage)})}"


def _partial(record: Record) -> bool:
    return (record.get("coverage") or {}).get("missed", 0) > MISSED
