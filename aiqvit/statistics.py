"""What is known of the metrics of runs, from what their models said or, where that was not kept, from their sums."""

from __future__ import annotations

import sys
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
    name = next((n for n in TASKS.names() if label == n or label.startswith(f"{n}-")), label)
    return TASKS.get(name)


def known(record: Record, outcomes: Outcomes | None, draws: int | None = None, seed: int = 0) -> dict[str, Measured]:
    """Every metric of a run; `draws` of the bootstrap are the task's own unless given.

    Raises `UserError` for outcomes that are not what the task scores, and for a task that is not here.
    """
    task, metrics = task_of(record["spec"]["task"]), record["metrics"]
    draws, drawn = draws or task.draws, None
    if outcomes and outcomes.samples:
        try:
            drawn = scores(lambda weights: task.score(outcomes, weights), len(outcomes.samples), draws, seed)
        except (KeyError, IndexError, TypeError, ValueError) as error:  # as of another version of the task
            raise UserError(f"the outcomes of {record['id']!r} are not what the task {task.name!r} scores "
                            f"({line(str(error))[:100]}): run it again with --force") from error
    values = {name: value for name, value in metrics.items() if name not in COUNTS}
    return measured(record["spec"]["seed"], values, task.counted, metrics.get("images", 0), drawn, draws)


class Statistics:
    """Intervals of cells and of their differences: see `aiqvit.report.intervals.Intervals`.

    Records have the `folder` that they lie in; without one they are taken by their sums.
    """

    level = LEVEL

    def __init__(self, shown: bool = False) -> None:
        """`shown`: whether cells have their intervals."""
        self.shown = shown
        self._known: dict[str, dict[str, Measured]] = {}
        self._samples: dict[str, tuple[str, ...]] = {}  # by the digest of the data

    def read(self, records: Iterable[Record]) -> Statistics:
        """Read what is known of the records that ended well, with a progress bar; otherwise when it is asked for."""
        done = [record for record in records if record["status"] == "done"]
        for record in tqdm(done, "intervals", leave=False, file=sys.stderr, delay=2, disable=None):
            self._run(record)
        return self

    def of(self, runs: Sequence[Record], metric: str) -> Interval:
        """Of the mean over the runs of a cell, which differ by their seeds."""
        return of_metric(self._measured(runs, metric), self.level)

    def indistinguishable(self, best: Sequence[Record], others: Sequence[Sequence[Record]], metric: str) -> list[bool]:
        """For each of the other cells, whether nothing tells it from the best; False where nothing can be said."""
        ours = self._measured(best, metric)
        found = [of_difference(ours, self._measured(runs, metric), self.level) for runs in others]
        return [interval.low == interval.low and not distinguishable(interval) for interval in found]

    def _measured(self, runs: Sequence[Record], metric: str) -> list[Measured]:
        return [run[metric] for run in map(self._run, runs) if metric in run]

    def _run(self, record: Record) -> dict[str, Measured]:
        if record["id"] not in self._known:
            try:
                self._known[record["id"]] = known(record, self._outcomes(record))
            except UserError as error:
                print(line(f"aiqvit: {error}; until then its sums have to do"), file=sys.stderr)
                self._known[record["id"]] = self._by_sums(record)
        return self._known[record["id"]]

    def _outcomes(self, record: Record) -> Outcomes | None:
        """Raises `UserError` for those of other samples than the first run on the same data had."""
        found = Store.of(Path(record["folder"])).outcomes(record) if "folder" in record else None
        usual = self._samples.setdefault(record["spec"]["data"], found.samples) if found else ()
        if found and found.samples != usual:
            raise UserError(f"{record['id']!r} was evaluated on other samples than other runs on the same data: run it "
                            "again with --force")
        return found

    def _by_sums(self, record: Record) -> dict[str, Measured]:
        try:
            return known(record, None)
        except UserError:  # of a task that is not here
            return {}
