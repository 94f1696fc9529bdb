"""Folders of records: found in a results folder, or in a folder of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from aiqvit.interfaces import UserError
from aiqvit.io.text import missing

DEPTH = 4  # folders between the one that is named and `runs`
OTHERS = {"outcomes", "partial", "models", "tables", "figures"}  # in a results folder, besides `runs`


def folders(place: Path) -> list[Path]:
    """Every folder `runs` that holds records, at most `DEPTH` folders below; or the folder itself when it does.

    Links to folders below are not followed. Raises `UserError` for a folder that is not there.
    """
    if place.is_file():
        raise UserError(f"results folder {str(place)!r} is a file: name the folder that aiqvit.bench --out made")
    if not place.is_dir():
        raise UserError(f"{missing('results folder', place)} (aiqvit.bench --out makes it)")
    return list(_below(place)) or ([place] if any(place.glob("*.json")) else [])


def _below(place: Path) -> Iterator[Path]:
    for folder, inner, _ in os.walk(place):
        if "runs" in inner and any(Path(folder, "runs").glob("*.json")):
            yield Path(folder, "runs")
        deepest = len(Path(folder).relative_to(place).parts) >= DEPTH
        inner[:] = [] if deepest else sorted(n for n in inner if n not in OTHERS | {"runs"} and not n.startswith("."))
