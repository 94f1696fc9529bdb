"""The method's place in a table, from a record: derived, because a label that is stored lies once a default changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from aiqvit.harness.identity import labels
from aiqvit.harness.identity.spec import Run
from aiqvit.harness.store.records import Record

ELSEWHERE = {"protocol", "memory_gb"}  # settings that a part's heading says, or that change no number
OLD_DEFAULTS = {"lowrank=on", "dfq=on", "curriculum=on", "rank=0"}  # in labels of before, spelled out in a grid


def variant(record: Record) -> str:
    """`dfq=off`: the settings that differ from what the method had by itself; empty for the method as it is.

    A record of before there were `defaults` has a label that somebody typed: its brackets, without defaults.
    """
    if "defaults" in record:
        return labels.variant(record["spec"]["settings"], record["defaults"], ELSEWHERE)
    return ",".join(part for part in _typed(record).split(",") if part not in OLD_DEFAULTS)


def label(record: Record, title: str) -> str:
    """The method's title and the same in brackets."""
    if "defaults" in record:
        return labels.label(title, record["spec"]["settings"], record["defaults"], ELSEWHERE)
    return f"{title} [{inside}]" if (inside := _typed(record)) else title


def with_more(text: str, more: str) -> str:
    """A label with something more in its brackets."""
    return f"{text[:-1]},{more}]" if text.endswith("]") and " [" in text else f"{text} [{more}]"


def changed(runs: Sequence[Run], only: Collection[str] | None = None) -> str:
    """For a file name: `steps=1,lowrank=off`, several variants joined by `+`; empty where all are the preset's own.

    `only` leaves settings of other names out: an ablation has a name, what is typed besides has none.
    """
    found: dict[str, None] = {}
    for run in runs:
        settings = {k: v for k, v in run.spec.settings.items() if only is None or k in only}
        inputs = labels.inputs(run.spec.settings)
        found[",".join(filter(None, [labels.variant(settings, run.defaults), inputs]))] = None
    return "+".join(filter(None, found))


def _typed(record: Record) -> str:
    """What stands in the brackets of a record of before."""
    return record["label"].partition(" [")[2].removesuffix("]")
