"""Runs of a grid one after the other in this process, model by model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby

from aiqvit.harness.identity.spec import Run
from aiqvit.harness.launch.gather import gather
from aiqvit.harness.launch.plan import Plan
from aiqvit.harness.launch.request import Request
from aiqvit.harness.run.executor import Executor, Finished
from aiqvit.harness.store.records import Record, Store

Work = Callable[[], tuple[Record, bool] | None]


def execute(grid: Plan, store: Store, request: Request,
            before: Callable[[Run, int], None] = lambda run, number: None) -> Iterator[Finished]:
    """Yield every run with its record and whether it was executed now.

    `before` is called with a run and its number from 1 when it is about to be executed.
    """
    executor = Executor(grid.task, store, grid.device, request.batch_size, request.weights)
    numbers = {run.spec.id: number for number, run in reversed(list(enumerate(grid.runs, 1)))}

    def submit(item: Run, fp32: dict | None, wait: bool) -> Work:
        told = partial(before, item, numbers[item.spec.id])
        return partial(executor, item, fp32, request.redo, wait, told)

    for _, runs in groupby(grid.runs, key=lambda run: run.spec.model):
        yield from gather(runs, store, request.redo, submit, _completed)


def _completed(works: list[Work]) -> Iterable[tuple[Work, tuple[Record, bool] | None]]:
    return ((work, work()) for work in works)  # each is executed when its record is asked for
