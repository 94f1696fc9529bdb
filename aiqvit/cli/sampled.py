"""What is known of the metrics of a cell's runs, and whether two cells were measured on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aiqvit.cli.finding import Kept
from aiqvit.harness.store.schema import COUNTS
from aiqvit.interfaces import Outcomes, UserError
from aiqvit.statistics import known
from aiqvit.stats.measured import Measured


@dataclass
class Cell:
    """The runs of one method, one a seed, with what they said; `outcomes` has None for a run that kept nothing."""

    runs: Sequence[Kept]
    outcomes: list[Outcomes | None] = field(init=False)

    def __post_init__(self) -> None:
        """Raises `UserError` for outcomes that are not there or were changed."""
        self.outcomes = [kept.store.outcomes(kept.record) for kept in self.runs]

    @property
    def spec(self) -> dict:
        """Of the first run; the others differ in what is drawn only."""
        return self.runs[0].record["spec"]

    def metrics(self) -> list[str]:
        """Those that all runs have, in the order of the records."""
        first, *others = (kept.record["metrics"] for kept in self.runs)
        return [name for name in first if name not in COUNTS and all(name in other for other in others)]

    def measured(self, draws: int | None, seed: int) -> list[dict[str, Measured]]:
        """Of each run every metric."""
        return [known(kept.record, outcomes, draws, seed)
                for kept, outcomes in zip(self.runs, self.outcomes, strict=True)]


def check(ours: Cell, theirs: Cell) -> None:
    """Raise `UserError` where two cells were not measured on the same samples in the same order, naming the first."""
    first, second = ours.runs[0], theirs.runs[0]
    if both := {kept.id for kept in ours.runs} & {kept.id for kept in theirs.runs}:
        raise UserError(f"{min(both)!r} is on both sides: name two runs")
    if ours.spec["data"] != theirs.spec["data"]:
        raise UserError(f"{first.id!r} was evaluated on other data than {second.id!r} (their digests are "
                        f"{ours.spec['data'][:12]} and {theirs.spec['data'][:12]}): only runs on the same samples "
                        "compare")
    counts = {kept.id: (kept.record["metrics"].get("images"), kept.record["metrics"].get("skipped"))
              for cell in (ours, theirs) for kept in cell.runs}
    if other := next((run for run in counts if counts[run] != counts[first.id]), None):
        raise UserError(f"{first.id!r} was evaluated on {_samples(*counts[first.id])} and {other!r} on "
                        f"{_samples(*counts[other])}: only runs on the same samples compare")
    known = [(kept, outcomes) for cell in (ours, theirs)
             for kept, outcomes in zip(cell.runs, cell.outcomes, strict=True) if outcomes]
    for kept, outcomes in known[1:]:
        _check_samples(known[0][0].id, known[0][1], kept.id, outcomes)


def _samples(images: int | None, skipped: int | None) -> str:
    return f"{images} samples" + (f" ({skipped} could not be read)" if skipped else "")


def _check_samples(one: str, ours: Outcomes, other: str, theirs: Outcomes) -> None:
    if ours.samples == theirs.samples:
        return
    pairs = zip(ours.samples, theirs.samples, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    if at is None:
        raise UserError(f"{one!r} has {len(ours.samples)} samples and {other!r} {len(theirs.samples)}: only runs on "
                        "the same samples compare")
    raise UserError(f"sample {at + 1} is {ours.samples[at]!r} in {one!r} and {theirs.samples[at]!r} in {other!r}: only "
                    "runs on the same samples in the same order compare")
