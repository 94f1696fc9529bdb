"""Which runs `aiqvit compare` means: a file, an id, the start or the end of one, or a glob."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from aiqvit.harness.store.records import Record, Store
from aiqvit.interfaces import UserError
from aiqvit.io.escape import line
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
    found = _each_once(paths)
    if seeds and len({_cell(kept) for kept in found.values()}) == 1:
        found = _siblings(next(iter(found.values()))) | found
    runs = sorted(found.values(), key=lambda kept: (kept.record["spec"]["seed"], kept.id))
    failed = [kept for kept in runs if kept.record["status"] != "done"]
    if len(failed) == len(runs):
        raise UserError(f"the run {failed[0].id!r} failed, so there is nothing to compare: run it again")
    for kept in failed:
        print(line(f"aiqvit: the run {kept.id!r} failed and is left out"), file=sys.stderr)
    runs = [kept for kept in runs if kept not in failed]
    cells = {_cell(kept): kept.id for kept in reversed(runs)}
    if len(cells) > 1:
        first, *others = [found[run].record for run in cells.values()]
        apart = "; ".join(f"{other['id']!r} has {difference(other, first)}" for other in others[:NAMED])
        raise UserError(f"{text!r} means runs that differ in more than their seed: beside {first['id']!r} {apart}; "
                        "give a whole id, with --seeds for all seeds of that run")
    seeds_of = [kept.record["spec"]["seed"] for kept in runs]
    if twice := [kept.id for kept in runs if seeds_of.count(kept.record["spec"]["seed"]) > 1]:
        raise UserError(f"{text!r} means several runs of one seed, calibrated on other samples: {_some(twice)}; name "
                        "one of them")
    return runs


def _each_once(paths: Sequence[Path]) -> dict[str, Kept]:
    """The records of files by run id: where several folders have a run, the first that ended well.

    Raises `UserError` for a file without one, where no other file has that run.
    """
    found: dict[str, Kept] = {}
    for path in paths:
        store = Store.of(path.parent)
        record, known = store.read(path.stem), found.get(path.stem)
        if record and known and known.record["metrics"] != record["metrics"] and record["status"] == "done":
            print(line(f"aiqvit: {path.stem} is there again in {path.parent}, with other numbers: the first that ended "
                       "well counts"), file=sys.stderr)
        if record and not (known and known.record["status"] == "done"):
            found[path.stem] = Kept(record, store)
    if bad := [path for path in paths if path.stem not in found]:
        raise UserError(f"{str(bad[0])!r} is no record that can be used")
    return found


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


def _cell(kept: Kept) -> str:
    return json.dumps({k: v for k, v in kept.record["spec"].items() if k not in DRAWN}, sort_keys=True)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:NAMED])) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
