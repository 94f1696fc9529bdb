"""Records of results folders: read, sorted into parts that may share a table, one set of runs a cell."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiqvit.harness.spec import REFERENCE
from aiqvit.harness.store import Record, Store
from aiqvit.interfaces import UserError
from aiqvit.report.published import variant

NEEDED = {"label", "spec", "metrics", "calibration_images", "times", "log", "scheme", "manifest", "data"}
SPEC = {"task", "data", "model", "method", "settings", "code", "preset", "bits", "seed", "limit"}
Key = tuple[str, str, str, str]  # model, method, variant, bits


@dataclass(frozen=True)
class Part:
    """Records that may share a table: same task, data, preset, protocol and limit."""

    task: str
    preset: str
    protocol: str
    limit: int | None
    data: str  # start of the data list's checksum where parts differ in nothing else, otherwise empty
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


def load(folders: Iterable[str | Path]) -> list[Record]:
    """Every record in the folders, each run once; a folder holds `runs/*.json`, or is that folder.

    Corrupt and foreign files are named on stderr and left out. Raises `UserError` for a folder that is not there or
    when there is no record at all.
    """
    found: dict[str, Record] = {}
    folders = [Path(folder) for folder in folders]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"results folder {str(folder)!r} does not exist")
        store = Store(folder if (folder / "runs").is_dir() else folder.parent)
        store.folder = folder / "runs" if (folder / "runs").is_dir() else folder
        for path in sorted(store.folder.glob("*.json")):
            record = store.read(path.stem)
            if record and (missing := _missing(record)):
                print(f"aiqvit: skipping {path}: it has no {', '.join(missing)}", file=sys.stderr)
            elif record and found.get(record["id"], {}).get("status") != "done":
                found[record["id"]] = record
    if not found:
        raise UserError(f"no records in {', '.join(map(str, folders))}: run aiqvit.bench first, or name its --out")
    return sorted(found.values(), key=_age)


def parts(records: Sequence[Record]) -> list[Part]:
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
        Part(task, preset, protocol, limit or None, data[:6] if alike[task, limit, preset, protocol] > 1 else "",
             (*(r for r in references if _place(r["spec"]) == (task, data, limit)), *group))
        for (task, data, limit, preset, protocol), group in sorted(groups.items())
    ]


def cells(records: Sequence[Record]) -> tuple[dict[Key, list[Record]], list[str]]:
    """The runs of each cell, one a seed, all with the same settings and code; and the ids of those left out.

    Where a cell has runs with other settings or other code, the newest that ended well decides.
    """
    groups: dict[Key, dict[str, list[Record]]] = {}
    for record in records:
        alike = json.dumps({**record["spec"], "seed": None}, sort_keys=True)
        groups.setdefault(key(record), {}).setdefault(alike, []).append(record)
    chosen, left_out = {}, []
    for where, versions in groups.items():
        best = max(versions, key=lambda name: max((r["status"] == "done", _age(r)) for r in versions[name]))
        chosen[where] = sorted(versions.pop(best), key=lambda r: r["spec"]["seed"])
        left_out += [r["id"] for group in versions.values() for r in group]
    return chosen, left_out


def key(record: Record) -> Key:
    """Where the record stands in a table."""
    spec = record["spec"]
    return spec["model"], spec["method"], variant(record["label"]), spec["bits"]


def _missing(record: Record) -> list[str]:
    spec = record.get("spec")
    return sorted(NEEDED - record.keys()) or sorted(SPEC - spec.keys() if isinstance(spec, dict) else SPEC)


def _place(spec: dict) -> tuple[str, str, int]:
    return spec["task"], spec["data"], spec["limit"] or 0


def _age(record: Record) -> tuple[str, str]:
    return record.get("manifest", {}).get("started", ""), record["id"]
