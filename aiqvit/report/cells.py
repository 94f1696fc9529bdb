"""One set of runs a cell: where several claim it, what they are decides, never when they were made."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from aiqvit.harness.identity import labels
from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record
from aiqvit.report.labels import ELSEWHERE, variant, with_more

DRAWN = ("seed", "calibration")  # what differs from seed to seed
CONTENT = {"weights": "weights", "code": "source", "train": "calibration data"}  # of a spec, in words
MADE_OF = ("weights", "train")  # never mixed in the cells of a model
Key = tuple[str, str, str, str]  # model, method, variant, bits


def cells(records: Iterable[Record]) -> dict[Key, list[Record]]:
    """The runs of each cell, one a seed, all with the same settings, weights and versions.

    All cells of a model have the weights and the calibration data that most of its runs have. Where a cell has other
    runs, it goes to those that ended well, then to the preset's own settings, the highest version, today's source, the
    most seeds. The others are variants of their own, whose key and label say what differs; such records have `beside`,
    the same text.
    """
    records = list(records)
    usual = _usual(records)
    claims: dict[Key, dict[str, list[Record]]] = {}
    for record in (_told_apart(record, usual) for record in records):
        alike = json.dumps({k: v for k, v in record["spec"].items() if k not in DRAWN}, sort_keys=True)
        claims.setdefault(key(record), {}).setdefault(alike, []).append(record)
    chosen, others = {}, []
    for where, groups in claims.items():
        ranked = sorted((layer for group in groups.values() for layer in _layers(group)),
                        key=_rank, reverse=True)
        chosen[where] = ranked[0]
        others += [(where, runs, difference(runs[0], ranked[0][0])) for runs in ranked[1:]]
    for (model, method, changed, bits), runs, what in others:
        place = model, method, ",".join(filter(None, [changed, what])), bits
        if place in chosen:
            what = f"{what},{runs[0]['id']}"
            place = model, method, ",".join(filter(None, [changed, what])), bits
        chosen[place] = [_beside(r, what) for r in runs]
    return chosen


def key(record: Record) -> Key:
    """Where the record stands in a table."""
    spec = record["spec"]
    changed = ",".join(filter(None, [variant(record), record.get("beside", "")]))
    return spec["model"], spec["method"], changed, spec["bits"]


def _usual(records: Iterable[Record]) -> dict[tuple[str, str], str]:
    """(model, `weights` or `train`) -> what most of its runs have, of equally many the one with full precision."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for record in records:
        spec = record["spec"]
        for name in MADE_OF:
            if value := spec.get(name):
                reference = 0.5 * (spec["method"] == REFERENCE)
                found.setdefault((spec["model"], name), Counter())[value] += 1 + reference
    return {where: max(counts, key=lambda value: (counts[value], value)) for where, counts in found.items()}


def _told_apart(record: Record, usual: Mapping[tuple[str, str], str]) -> Record:
    """The record, as a variant where it is of other weights or calibration data than is usual for its model."""
    spec = record["spec"]
    what = ",".join(f"{CONTENT[name]} {spec[name][:6]}" for name in MADE_OF
                    if spec.get(name) and spec[name] != usual[spec["model"], name])
    return _beside(record, what) if what else record


def _beside(record: Record, what: str) -> Record:
    both = ",".join(filter(None, [record.get("beside", ""), what]))
    return {**record, "beside": both, "label": with_more(record["label"], what)}


def difference(record: Record, other: Record) -> str:
    """`steps=1,lowrank=off`, or `weights 7664ed`, `method 1`, `1 thread`: what a run has that another has not."""
    spec, beside = record["spec"], other["spec"]
    parts = [_settings(spec["settings"], beside["settings"])]
    known = str(beside.get("version", "")).split(", ")
    parts += [part for part in str(spec.get("version", "")).split(", ") if part not in known]
    parts += [f"{word} {str(spec[name])[:6]}" for name, word in CONTENT.items()
              if spec.get(name) and spec[name] != beside.get(name)]
    if (threads := spec.get("threads")) != beside.get("threads"):
        parts.append("1 thread" if threads == 1 else f"{threads} threads")
    if spec.get("device") != beside.get("device"):
        parts.append(str(spec.get("device")))
    return ",".join(filter(None, parts)) or f"run {record['id'].rpartition('-')[2]}"  # drawn from other samples


def unequal(found: Mapping[Key, Sequence[Record]]) -> list[str]:
    """Remarks on cells whose settings are not those of most cells of their method, though no label says so.

    Records of before there were `defaults` have typed labels, which may be wrong.
    """
    by_method: dict[str, list[Record]] = {}
    for (_, method, changed, _), runs in found.items():
        if not changed:
            by_method.setdefault(method, []).append(runs[0])
    remarks = []
    for records in by_method.values():
        count = Counter(json.dumps(r["spec"]["settings"], sort_keys=True) for r in records)
        usual = max(records, key=lambda r: (count[json.dumps(r["spec"]["settings"], sort_keys=True)],
                                            -r.get("unlike", 0), r["id"]))
        for record in records:
            spec = record["spec"]
            if text := _settings(spec["settings"], usual["spec"]["settings"]):
                remarks.append(f"{spec['model']} {record['label']} {spec['bits']} has other settings than most cells "
                               f"of its method: {text}")
    return remarks


def _settings(settings: Mapping, others: Mapping) -> str:
    """Those that the others have with another value, and how samples are prepared."""
    own = {k: v for k, v in settings.items() if k not in others or v != others[k]}
    usual = dict.fromkeys(k for k in own if k.startswith(labels.INPUTS))
    return labels.variant(own, {**usual, **others}, ELSEWHERE)


def _layers(group: Sequence[Record]) -> list[list[Record]]:
    """Runs with equal specs but for what is drawn, one a seed; further runs of a seed are further sets."""
    by_seed: dict[int, list[Record]] = {}
    for record in sorted(group, key=_worth, reverse=True):
        by_seed.setdefault(record["spec"]["seed"], []).append(record)
    deepest = max(map(len, by_seed.values()))
    return [[by_seed[seed][i] for seed in sorted(by_seed) if len(by_seed[seed]) > i] for i in range(deepest)]


def _rank(runs: Sequence[Record]) -> tuple:
    version = tuple(map(int, re.findall(r"[0-9]{1,9}", str(runs[0]["spec"].get("version", "")))))
    return (any(r["status"] == "done" for r in runs), not any(r.get("newer") for r in runs),
            -min(r.get("unlike", 0) for r in runs), version, not any(r.get("stale") for r in runs), len(runs),
            max(map(_worth, runs)))


def _worth(record: Record) -> tuple:
    """Within equal settings; only records of before, which say no version, have nothing better than a time stamp."""
    started = "" if record["spec"].get("version") else str(record["manifest"].get("started", ""))
    return record["status"] == "done", not record.get("stale"), started, record["id"]
