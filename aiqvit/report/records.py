"""Records of results folders: read, and sorted into parts that may share a table."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pandas import DataFrame

from aiqvit.harness.identity.labels import INPUTS, differing
from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record, Store, changed_since
from aiqvit.interfaces import UserError
from aiqvit.io.escape import line
from aiqvit.io.names import file_name
from aiqvit.report.cells import cells
from aiqvit.report.folders import folders
from aiqvit.report.frame import tidy
from aiqvit.report.labels import label
from aiqvit.report.summary import summarise


class About(NamedTuple):
    """What a method says of itself (`Method`)."""

    title: str
    note: str = ""
    fairness: str = ""


class Catalogue(Protocol):
    """What the registered methods and tasks say about records."""

    def title(self, method: str) -> str:
        """The method's title, or its name when it is not registered here."""

    def source(self, method: str, task: str) -> str:
        """The hash of today's source of both, empty when it cannot be known; `task` as in a spec."""

    def newer(self, spec: Mapping[str, Any]) -> bool:
        """Whether a version of method, task or engine in a run's spec is higher than today's here."""

    def preset(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings that the preset of a run's spec has today, empty when they say nothing about that run."""


@dataclass(frozen=True)
class Comparable:
    """Records that may share a table: same task, data, preset, protocol and limit."""

    task: str
    preset: str
    protocol: str
    limit: int | None
    data: str  # start of the evaluated samples' digest where parts differ in nothing else, otherwise empty
    records: tuple[Record, ...]
    mark: str = ""  # what tells the file names of two parts apart that would have the same

    @cached_property
    def summary(self) -> DataFrame:
        """Its cells, without intervals."""
        return summarise(tidy(cells(self.records)))

    @property
    def name(self) -> str:
        """For a file name, different for each part."""
        limit = f"limit{self.limit}" if self.limit else ""
        protocol = "" if self.protocol == "unified" else self.protocol
        data = f"data{self.data}" if self.data else ""
        return file_name("-".join(filter(None, [self.task, self.preset, protocol, limit, data, self.mark])))

    @property
    def title(self) -> str:
        """For a heading."""
        facts = (("preset", self.preset), ("protocol", self.protocol), ("data", self.data))
        return ", ".join([self.task, *(f"{name} {value}" for name, value in facts if value)])


def load(places: Iterable[str | Path], catalogue: Catalogue) -> list[Record]:
    """Every record in results folders or folders of them (`folders.folders`), each run once.

    What is derived is added to each: its `label`; `stale`, whether the source has changed since; `unlike`, how many of
    its settings are not those of the preset; `newer`, whether a later version than today's made it; and the `folder`
    that it lies in. Corrupt and foreign files are named on stderr and left out. Raises `UserError` for a folder that is
    not there or when there is no record at all.
    """
    found: dict[str, Record] = {}
    places = list(map(Path, places))
    for folder in dict.fromkeys(folder for place in places for folder in folders(place)):
        for record in Store.of(folder).records():
            known = found.get(record["id"])
            if known and known["metrics"] != record["metrics"]:
                print(line(f"aiqvit: {record['id']} is there again in {folder}, with other numbers: the first that "
                           "ended well counts"), file=sys.stderr)
            if not known or known["status"] != "done":
                found[record["id"]] = {**_derived(record, catalogue), "folder": str(folder)}
    if not found:
        raise UserError(f"no records in {', '.join(map(str, places))}, nor in runs of folders in it: run aiqvit.bench "
                        "first, or name its --out")
    return sorted(found.values(), key=_age)


def parts(records: Sequence[Record]) -> list[Comparable]:
    """Sort records; a full-precision run belongs to every part with its data and limit."""
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        spec = record["spec"]
        if spec["method"] != REFERENCE:
            protocol = str(spec["settings"].get("protocol", "unified"))
            groups.setdefault((*_place(spec), spec["preset"], protocol), []).append(record)
    references = [r for r in records if r["spec"]["method"] == REFERENCE]
    for record in references:
        place = _place(record["spec"])
        if not any(key[:3] == place for key in groups):
            groups[(*place, "", "unified")] = []
    alike = Counter((task, *rest) for task, _, *rest in groups)
    found = [
        Comparable(task, preset, protocol, limit or None, data[:6] if alike[task, limit, preset, protocol] > 1 else "",
                   (*(r for r in references if _place(r["spec"]) == (task, data, limit)), *group))
        for (task, data, limit, preset, protocol), group in sorted(groups.items())
    ]
    names = Counter(part.name.casefold() for part in found)  # some file systems know no case
    return [part if names[part.name.casefold()] == 1 else replace(part, mark=_digest(where))
            for part, where in zip(found, sorted(groups), strict=True)]


def _derived(record: Record, catalogue: Catalogue) -> Record:
    spec = record["spec"]
    settings, own = spec["settings"], catalogue.preset(spec)
    if own and "defaults" in record:  # of today's version: what the preset is stands in the code
        record = {**record, "defaults": {**record["defaults"], **own}}
    inputs = [name for name in settings if name.startswith(INPUTS)]
    return {**record, "label": label(record, catalogue.title(spec["method"])),
            "stale": changed_since(record, catalogue.source(spec["method"], spec["task"])),
            "unlike": len([*differing(settings, own), *inputs]), "newer": catalogue.newer(spec)}


def _place(spec: dict) -> tuple[str, str, int]:
    return spec["task"], spec["data"], spec["limit"] or 0


def _digest(where: tuple) -> str:
    return hashlib.sha256(repr(where).encode()).hexdigest()[:8]


def _age(record: Record) -> tuple[str, str]:
    return str(record["manifest"].get("started", "")), record["id"]
