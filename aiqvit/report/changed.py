"""Which settings of a table's runs are not those of the preset, for the name of its file."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from aiqvit.harness.identity import labels
from aiqvit.harness.identity.spec import Run


def changed(runs: Sequence[Run], only: Collection[str] | None = None) -> str:
    """`steps=1,lowrank=off`, those of several variants joined by `+`; empty where all runs are the preset's own.

    `only` leaves settings of other names out: an ablation has a name, what is typed besides has none.
    """
    found: dict[str, None] = {}
    for run in runs:
        settings = {k: v for k, v in run.spec.settings.items() if only is None or k in only}
        inputs = labels.inputs(run.spec.settings)
        found[",".join(filter(None, [labels.variant(settings, run.defaults), inputs]))] = None
    return "+".join(filter(None, found))
