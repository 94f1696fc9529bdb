"""What is known of the metrics of runs, from what their models said or, where that was not kept, from their sums."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from aiqvit.harness.store.records import Record, Store
from aiqvit.harness.store.schema import COUNTS
from aiqvit.interfaces import Outcomes, Task, UserError
from aiqvit.io.escape import line
from aiqvit.registry import TASKS
from aiqvit.stats.intervals import LEVEL, Interval, distinguishable, of_difference, of_metric
from aiqvit.stats.measured import Measured, measured
from aiqvit.stats.resamples import scores


def task_of(label: str) -> type[Task]:
    """The class of a label, `imagenet-mini` of the task `imagenet`. Raises `UserError` where it is not here."""
    return TASKS.get(TASKS.of_label(label))


def known(record: Record, outcomes: Outcomes | None, draws: int | None = None, seed: int = 0) -> dict[str, Measured]:
    """Every metric of a run; `draws` of the bootstrap are the task's own unless given.

    Raises `UserError` for outcomes that are not what the task scores or not what the record says, and for a task that
    is not here.
    """
    task, metrics = task_of(record["spec"]["task"]), record["metrics"]
    draws, drawn = draws or task.draws, None
    if outcomes and outcomes.samples:
        try:
            _check(task, record, outcomes)
            drawn = scores(lambda weights: task.score(outcomes, weights), len(outcomes.samples), draws, seed)
        except Exception as error:  # as of another version of the task, or of a file that somebody made
            raise UserError(f"the outcomes of {record['id']!r} are not what the task {task.name!r} scores "
                            f"({line(str(error))[:100]}): run it again with --force") from error
    values = {name: value for name, value in metrics.items() if name not in COUNTS}
    return measured(record["spec"]["seed"], values, task.counted, metrics.get("images", 0), drawn, draws)


def _check(task: type[Task], record: Record, outcomes: Outcomes) -> None:
    """Raise `ValueError` where outcomes have another number of samples or other metrics than their record."""
    metrics, count = record["metrics"], len(outcomes.samples)
    if metrics.get("images", count) != count:
        raise ValueError(f"they are of {count} samples, its record of {metrics['images']}")
    exact = 1e-6 if task.digits is None else 10.0**-task.digits
    for name, value in task.score(outcomes, outcomes.once()).items():
        said = metrics.get(name, math.nan)
        if math.isfinite(said) and not abs(float(value[0]) - said) <= exact * max(1, abs(said)):
            raise ValueError(f"they give {name} {float(value[0]):.4f}, its record has {said:.4f}")


class Statistics:
    """Intervals of cells and of their differences: see `aiqvit.report.intervals.Intervals`.

    Records have the `folder` that they lie in; without one they are taken by their sums.
    """

    level = LEVEL

    def __init__(self, records: Iterable[Record], shown: bool = False) -> None:
        """Read what is known of the records that ended well, with a progress bar.

        Outcomes that cannot be used are named on stderr. `shown`: whether cells have their intervals.
        """
        self.shown = shown
        self._known: dict[str, dict[str, Measured]] = {}
        self._samples: dict[str, tuple[str, ...]] = {}  # of runs with outcomes
        self._records = {record["id"]: record for record in records if record["status"] == "done"}
        for record in tqdm(self._records.values(), "intervals", leave=False, file=sys.stderr, delay=2, disable=None):
            self._known[record["id"]] = self._read(record)
        self._tell_apart()

    def of(self, runs: Sequence[Record], metric: str) -> Interval:
        """Of the mean over the runs of a cell, which differ by their seeds."""
        return of_metric(self._measured(runs, metric), self.level)

    def indistinguishable(self, best: Sequence[Record], others: Sequence[Sequence[Record]], metric: str) -> list[bool]:
        """For each of the other cells, whether nothing tells it from the best; False where nothing can be said."""
        ours = self._measured(best, metric)
        found = [of_difference(ours, self._measured(runs, metric), self.level) for runs in others]
        return [interval.low == interval.low and not distinguishable(interval) for interval in found]

    def _measured(self, runs: Sequence[Record], metric: str) -> list[Measured]:
        found = (self._known.get(run["id"], {}) for run in runs)
        return [run[metric] for run in found if metric in run]

    def _read(self, record: Record) -> dict[str, Measured]:
        try:
            found = Store.of(Path(record["folder"])).outcomes(record) if "folder" in record else None
            made = known(record, found)
        except UserError as error:
            return self._by_sums(record, str(error))
        if found:
            self._samples[record["id"]] = found.samples
        return made

    def _by_sums(self, record: Record, why: str) -> dict[str, Measured]:
        print(line(f"aiqvit: {why}; its percentages are compared by their sums"), file=sys.stderr)
        try:
            return known(record, None)
        except UserError:  # of a task that is not here
            return {}

    def _tell_apart(self) -> None:
        """Runs on the same data were evaluated on the samples that most of them have; of others only sums are known."""
        by_data: dict[str, list[str]] = {}
        for run in self._samples:
            by_data.setdefault(self._records[run]["spec"]["data"], []).append(run)
        for runs in by_data.values():
            usual = Counter(self._samples[run] for run in runs).most_common(1)[0][0]
            for run in runs:
                if self._samples[run] != usual:
                    self._known[run] = self._by_sums(self._records[run], f"{run!r} was evaluated on other samples than "
                                                     "most runs on the same data: run it again with --force")
