"""What `aiqvit compare` says of two cells: what they are, every metric with its interval, the samples that changed."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiqvit.catalogue import Registered
from aiqvit.cli.changes import OTHER, Change, changes, counts, right
from aiqvit.cli.sampled import Cell
from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.interfaces import Outcomes, UserError
from aiqvit.io.escape import line
from aiqvit.report.labels import label
from aiqvit.report.metrics import metric as about
from aiqvit.report.summary import UNDEFINED
from aiqvit.statistics import task_of
from aiqvit.stats.intervals import Interval, distinguishable, of_difference, of_metric
from aiqvit.stats.mcnemar import mcnemar


def heading(ours: Cell, theirs: Cell) -> Iterator[str]:
    """What the two are and on how many samples they were measured."""
    known = Registered()
    for name, cell in (("first", ours), ("second", theirs)):
        spec, record = cell.spec, cell.runs[0].record
        facts = [spec["task"], spec["model"], label(record, known.title(spec["method"]))]
        if spec["method"] != REFERENCE:
            seeds = ", ".join(str(kept.record["spec"]["seed"]) for kept in cell.runs)
            facts += [spec["bits"], spec["preset"], f"seed{'s' if len(cell.runs) > 1 else ''} {seeds}"]
        yield f"{name}: {', '.join(facts)}"
        yield f"    {', '.join(kept.id for kept in cell.runs)}"
        yield from (f"    {sentence}" for sentence in record.get("rewritten", ()))
    old = [kept.id for cell in (ours, theirs) for kept, said in zip(cell.runs, cell.outcomes, strict=True) if not said]
    if old:
        yield (f"no outcomes in {', '.join(old)}: compared by sums, as if on other samples, so that only large "
               "differences stand")


def table(ours: Cell, theirs: Cell, args: Namespace) -> Iterator[str]:
    """A line a metric. Raises `UserError` where they have none in common."""
    names = [name for name in ours.metrics() if name in theirs.metrics()]
    if not names:
        raise UserError(f"{ours.runs[0].id!r} and {theirs.runs[0].id!r} have no metric in common")
    first, second = (cell.measured(args.draws, args.seed) for cell in (ours, theirs))
    samples = ours.runs[0].record["metrics"].get("images", "?")
    yield f"{samples} samples, {100 * args.level:g} % intervals"
    rows = [("metric", "first", "second", "first - second", "covers", "")]
    for name in names:
        one, other = ([run[name] for run in runs] for runs in (first, second))
        apart = of_difference(one, other, args.level)
        rows.append((name, *(_shown(of_metric(runs, args.level), name) for runs in (one, other)),
                     _shown(apart, name, "+"), apart.basis, verdict(apart)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def verdict(difference: Interval) -> str:
    """Whether a difference stands."""
    if math.isnan(difference.low):
        return "cannot be told"
    return "stands" if distinguishable(difference) else "not distinguishable"


@dataclass(frozen=True)
class Changed:
    """Two runs sample by sample."""

    seeds: tuple[int, int]
    said: tuple[Outcomes, Outcomes]
    found: list[Change]


def changed(ours: Cell, theirs: Cell) -> Changed | None:
    """From a run of the first cell to one of the second, with a seed that both have where there is one.

    None where one of them kept no outcomes.
    """
    seeds = [[kept.record["spec"]["seed"] for kept in cell.runs] for cell in (ours, theirs)]
    both = sorted(set(seeds[0]) & set(seeds[1]))
    at = [found.index(both[0]) if both else 0 for found in seeds]
    said = ours.outcomes[at[0]], theirs.outcomes[at[1]]
    if not (said[0] and said[1]):
        return None
    try:
        found = changes(task_of(ours.spec["task"]), *said)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        runs = f"{ours.runs[at[0]].id!r} and {theirs.runs[at[1]].id!r}"
        raise UserError(f"the outcomes of {runs} are not what their task scores ({line(str(error))[:100]}): run them "
                        "again with --force") from error
    return Changed((seeds[0][at[0]], seeds[1][at[1]]), said, found)


def listed(both: Changed, single: bool, limit: int) -> Iterator[str]:
    """How many samples changed, and some of them; before it McNemar's test where cells are `single` runs that are
    right or wrong."""
    hits = [right(outcomes) for outcomes in both.said]
    if single and all(hit is not None for hit in hits):
        test = mcnemar(*hits)
        yield (f"McNemar's exact test: only the first is right on {test.ours} samples, only the second on "
               f"{test.theirs}, p = {test.p:.2g}")
    which = "" if single else f" (seeds {both.seeds[0]} and {both.seeds[1]})"
    kinds = f": {counts(both.found)}" if both.found else ""
    yield f"from the first to the second{which} {len(both.found)} samples changed{kinds}"
    for change in some(both.found, limit):
        yield f"    {'; '.join(change.lines)}"


def some(found: Sequence[Change], limit: int) -> list[Change]:
    """As many evenly spaced ones: those that became right or wrong, of which all stand first, before others."""
    moved = [change for change in found if change.kind != OTHER] or list(found)
    count = max(min(limit, len(moved)), 0)
    return [moved[i * len(moved) // count] for i in range(count)]


def _shown(interval: Interval, metric: str, sign: str = "") -> str:
    if math.isnan(interval.value):
        return UNDEFINED
    digits = about(metric).decimals
    value = f"{interval.value:{sign}.{digits}f}"
    if math.isnan(interval.low):
        return value
    return f"{value} [{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]"
