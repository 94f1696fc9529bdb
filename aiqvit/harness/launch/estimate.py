"""How long the runs that are left will take, from the records of those that ended, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from statistics import median

from aiqvit.harness.identity.spec import Run
from aiqvit.harness.launch.typical import typical
from aiqvit.harness.store.records import Record

LIKENESS = (  # fields of the spec that a past run must share, the closest kind first
    ("task", "model", "method", "settings", "preset", "bits", "limit", "device", "threads"),
    ("task", "model", "method", "settings", "preset", "limit", "device"),
    ("task", "model", "method", "preset", "device"),
    ("task", "method", "preset", "device"),
)


def seconds_left(pending: Iterable[Run], records: Iterable[Record]) -> dict[str, float]:
    """Seconds of each pending run, by id: the median of the most alike past runs; without any, none.

    Seconds are those to quantize and to evaluate.
    """
    past = [(r["spec"], r["times"]["quantize"] + r["times"]["evaluate"]) for r in records
            if r["status"] == "done" and {"quantize", "evaluate"} <= r["times"].keys()]
    found = {}
    for run in pending:
        for names in LIKENESS:
            key = _key(names)
            alike = [seconds for spec, seconds in past if key(spec) == key(asdict(run.spec))]
            if alike:
                found[run.spec.id] = median(alike)
                break
    return found


def sentence(pending: Sequence[Run], records: Iterable[Record], workers: int, more: int = 0) -> str:
    """The estimate in words, and where it comes from; `more` runs are left of which nothing is known yet.

    Runs without a past run that is alike are taken to need what such runs took elsewhere (`typical`).
    """
    count = len(pending) + more
    if not count:
        return "nothing is left to do"
    here = seconds_left(pending, records)
    elsewhere = seconds_left([run for run in pending if run.spec.id not in here], typical())
    known = here | elsewhere
    if not known:
        return f"{_runs(count)} left; no past run here is alike, so there is no estimate of the time"
    sources = ["medians of the past runs in this folder that are most alike"] if here else []
    sources += ["what such runs took on another machine"] if elsewhere else []
    rest = count - len(known)
    unknown = f"; {_runs(rest)} more with no past run alike" if rest else ""
    side = f", {workers} side by side" if workers > 1 else ""
    return (f"about {duration(sum(known.values()) / workers)} left for {_runs(len(known))}{side} "
            f"({', '.join(sources)}){unknown}")


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _key(names: tuple[str, ...]) -> Callable[[dict], list]:
    return lambda spec: [_plain(spec.get(name)) for name in names]


def _plain(value: object) -> object:  # settings hold tuples here and lists in JSON
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return list(value) if isinstance(value, tuple) else value
