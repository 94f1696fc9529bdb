"""Which runs `aiqvit compare` means: a file, an id, the start or the end of one, or a glob."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from aiqvit.harness.store.records import Record, Store
from aiqvit.interfaces import UserError
from aiqvit.report.cells import DRAWN, difference
from aiqvit.report.folders import folders as record_folders

NAMED = 3  # ids that a message gives


@dataclass(frozen=True)
class Kept:
    """A record and the folder that it is from."""

    record: Record
    store: Store

    @property
    def id(self) -> str:
        """Of the run."""
        return self.record["id"]


def find(text: str, folders: Sequence[str], seeds: bool = False) -> list[Kept]:
    """The runs of one cell that a text means, by seed, and with `seeds` all others of the cell.

    `folders` are results folders or folders of them. Raises `UserError` for no run, for several cells, and for a run
    that failed.
    """
    paths = [Path(text)] if Path(text).is_file() else _matching(text, folders)
    found = {kept.id: kept for kept in map(_read, reversed(paths))}
    if seeds and len({_cell(kept) for kept in found.values()}) == 1:
        found |= _siblings(next(iter(found.values())))
    runs = sorted(found.values(), key=lambda kept: (kept.record["spec"]["seed"], kept.id))
    if failed := [kept for kept in runs if kept.record["status"] != "done"]:
        raise UserError(f"the run {failed[0].id!r} failed, so there is nothing to compare: run it again")
    cells = {_cell(kept): kept.id for kept in reversed(runs)}
    if len(cells) > 1:
        first, *others = [found[run].record for run in cells.values()]
        apart = "; ".join(f"{other['id']!r} has {difference(other, first)}" for other in others[:NAMED])
        raise UserError(f"{text!r} means runs that differ in more than their seed: beside {first['id']!r} {apart}; "
                        "give a whole id, with --seeds for all seeds of that run")
    return runs


def _matching(text: str, folders: Sequence[str]) -> list[Path]:
    places = dict.fromkeys(place for folder in folders for place in record_folders(Path(folder)))
    paths = [path for place in places for path in sorted(place.glob("*.json"))]
    ids = [path.stem for path in paths]
    exact = [path for path in paths if path.stem == text]
    if found := exact or [path for path in paths if text and _means(text, path.stem)]:
        return found
    # a part of an id is little of it
    near = get_close_matches(text.strip("*"), ids, n=NAMED, cutoff=0.1)
    where = f"among the {len(set(ids))} in {', '.join(folders)}"
    raise UserError(f"no run {text!r} {where}" + (f": did you mean {_some(near)}?" if near else ""))


def _siblings(one: Kept) -> dict[str, Kept]:
    """The runs beside this one that differ from it in their seed only, and ended well."""
    beside = (Kept(record, one.store) for record in one.store.records())
    return {kept.id: kept for kept in beside if _cell(kept) == _cell(one) and kept.record["status"] == "done"}


def _means(text: str, run: str) -> bool:
    return fnmatchcase(run, text) if set("*?[") & set(text) else run.startswith(text) or run.endswith(text)


def _read(path: Path) -> Kept:
    store = Store.of(path.parent)
    record = store.read(path.stem)
    if not record:
        raise UserError(f"{str(path)!r} is no record that can be used")
    return Kept(record, store)


def _cell(kept: Kept) -> str:
    return json.dumps({k: v for k, v in kept.record["spec"].items() if k not in DRAWN}, sort_keys=True)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:NAMED])) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
