"""Records of results folders: read, sorted into parts that may share a table, one set of runs a cell."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record, Store, changed_since
from aiqvit.interfaces import UserError
from aiqvit.io.text import missing
from aiqvit.report.labels import label, variant

NEEDED = {"spec", "metrics", "calibration_images", "times", "log", "scheme", "manifest", "data"}
SPEC = {"task", "data", "model", "method", "settings", "preset", "bits", "seed", "limit"}
DRAWN = ("seed", "calibration")  # what differs from seed to seed
Key = tuple[str, str, str, str]  # model, method, variant, bits


class Catalogue(Protocol):
    """What the registered methods and tasks say about records."""

    def title(self, method: str) -> str:
        """The method's title, or its name when it is not registered here."""

    def source(self, method: str, task: str) -> str:
        """The hash of today's source of both, empty when it cannot be known; `task` as in a spec."""


@dataclass(frozen=True)
class Comparable:
    """Records that may share a table: same task, data, preset, protocol and limit."""

    task: str
    preset: str
    protocol: str
    limit: int | None
    data: str  # start of the evaluated samples' digest where parts differ in nothing else, otherwise empty
    records: tuple[Record, ...]

    @property
    def name(self) -> str:
        """For a file name."""
        limit = f"limit{self.limit}" if self.limit else ""
        protocol = "" if self.protocol == "unified" else self.protocol
        return "-".join(filter(None, [self.task, self.preset, protocol, limit, self.data and f"data{self.data}"]))

    @property
    def title(self) -> str:
        """For a heading."""
        facts = (("preset", self.preset), ("protocol", self.protocol), ("data", self.data))
        return ", ".join([self.task, *(f"{name} {value}" for name, value in facts if value)])


def load(folders: Iterable[str | Path], catalogue: Catalogue) -> list[Record]:
    """Every record in the folders, each run once; a folder holds `runs/*.json`, or is that folder.

    What is derived is added to each: its `label`, and `stale`, whether the source has changed since. Corrupt and
    foreign files are named on stderr and left out. Raises `UserError` for a folder that is not there or when there is
    no record at all.
    """
    found: dict[str, Record] = {}
    folders = [Path(folder) for folder in folders]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{missing('results folder', folder)} (aiqvit.bench --out makes it)")
        store = Store(folder if (folder / "runs").is_dir() else folder.parent)
        store.folder = folder / "runs" if (folder / "runs").is_dir() else folder
        for path in sorted(store.folder.glob("*.json")):
            record = store.read(path.stem)
            if record and (lacking := _missing(record)):
                print(f"aiqvit: skipping {path}: it has no {', '.join(lacking)}", file=sys.stderr)
            elif record and found.get(record["id"], {}).get("status") != "done":
                found[record["id"]] = _derived(record, catalogue)
    if not found:
        raise UserError(f"no records in {', '.join(map(str, folders))}: run aiqvit.bench first, or name its --out")
    return sorted(found.values(), key=_age)


def parts(records: Sequence[Record]) -> list[Comparable]:
    """Sort records; a full-precision run belongs to every part with its data and limit."""
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        spec = record["spec"]
        if spec["method"] != REFERENCE:
            protocol = spec["settings"].get("protocol", "unified")
            groups.setdefault((*_place(spec), spec["preset"], protocol), []).append(record)
    references = [r for r in records if r["spec"]["method"] == REFERENCE]
    for record in references:
        place = _place(record["spec"])
        if not any(key[:3] == place for key in groups):
            groups[(*place, "", "unified")] = []
    alike = Counter((task, *rest) for task, _, *rest in groups)
    return [
        Comparable(task, preset, protocol, limit or None, data[:6] if alike[task, limit, preset, protocol] > 1 else "",
             (*(r for r in references if _place(r["spec"]) == (task, data, limit)), *group))
        for (task, data, limit, preset, protocol), group in sorted(groups.items())
    ]


def cells(records: Sequence[Record]) -> tuple[dict[Key, list[Record]], list[str]]:
    """The runs of each cell, one a seed, all with the same settings and versions; and the ids of those left out.

    Where a cell has runs with other settings or versions, the newest that ended well decides, and so within a seed.
    """
    groups: dict[Key, dict[str, list[Record]]] = {}
    for record in records:
        alike = json.dumps({k: v for k, v in record["spec"].items() if k not in DRAWN}, sort_keys=True)
        groups.setdefault(key(record), {}).setdefault(alike, []).append(record)
    chosen = {}
    for where, versions in groups.items():
        best = max(versions.values(), key=lambda group: max(map(_worth, group)))
        by_seed = {r["spec"]["seed"]: r for r in sorted(best, key=_worth)}
        chosen[where] = [by_seed[seed] for seed in sorted(by_seed)]
    used = {r["id"] for group in chosen.values() for r in group}
    return chosen, [r["id"] for versions in groups.values() for group in versions.values() for r in group
                    if r["id"] not in used]


def key(record: Record) -> Key:
    """Where the record stands in a table."""
    spec = record["spec"]
    return spec["model"], spec["method"], variant(record), spec["bits"]


def _derived(record: Record, catalogue: Catalogue) -> Record:
    spec = record["spec"]
    return {**record, "label": label(record, catalogue.title(spec["method"])),
            "stale": changed_since(record, catalogue.source(spec["method"], spec["task"]))}


def _missing(record: Record) -> list[str]:
    spec = record.get("spec")
    return sorted(NEEDED - record.keys()) or sorted(SPEC - spec.keys() if isinstance(spec, dict) else SPEC)


def _place(spec: dict) -> tuple[str, str, int]:
    return spec["task"], spec["data"], spec["limit"] or 0


def _worth(record: Record) -> tuple:
    return record["status"] == "done", _age(record)


def _age(record: Record) -> tuple[str, str]:
    return record.get("manifest", {}).get("started", ""), record["id"]
