"""What a method did to each unit: losses, ranks, learned intervals (AIQViT's Figure 4a), as a table from a record."""

from __future__ import annotations

from itertools import islice
from typing import Any

from aiqvit.harness.store.records import Record
from aiqvit.io.escape import markdown as escaped

LONGEST, MANY = 1000, 64  # characters of a text and columns that are shown


def grid(record: Record) -> list[list[str]]:
    """A header and a row a unit, a column for everything that the method logged; empty when it logged nothing."""
    log = record["log"]
    if not log:
        return []
    header = list(islice(dict.fromkeys(key for entry in log for key in entry), MANY))
    return [[key[:LONGEST] for key in header], *([_text(entry.get(key, "")) for key in header] for entry in log)]


def markdown(record: Record, label: str) -> str:
    """The same as Markdown, under a line that names the run; `label` is the method's."""
    if not (rows := grid(record)):
        return ""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    spec = record["spec"]
    title = escaped(f"{spec['model']} {label} {spec['bits']} seed {spec['seed']}, by unit:")
    return "\n".join([title, "", *(f"| {' | '.join(map(escaped, line))} |" for line in lines)]) + "\n"


def _text(value: Any) -> str:
    return _said(value)[:LONGEST]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " ".join(map(_text, value))
    if isinstance(value, dict):  # {layer: [rank, shares]} or nested losses: the first number is what matters
        return ", ".join(f"{key} {_text(v[0] if isinstance(v, list) and v else v)}" for key, v in value.items())
    return str(value)
