"""Runs of a grid side by side on this machine, each in a process of its own with a fixed number of threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait

from aiqvit.harness.identity.spec import Run
from aiqvit.harness.launch.gather import gather
from aiqvit.harness.launch.plan import Plan
from aiqvit.harness.launch.request import Request
from aiqvit.harness.run import progress
from aiqvit.harness.run.executor import Executor, Finished, Redo
from aiqvit.harness.store.records import Record, Store
from aiqvit.interfaces import UserError

_executor: list[Executor] = []  # of a worker process


def execute_side_by_side(grid: Plan, store: Store, request: Request) -> Iterator[Finished]:
    """Yield every run of the grid as it ends, with its record and whether it was executed now.

    Raises `UserError` when a worker process dies.
    """
    with ProcessPoolExecutor(request.workers, get_context("spawn"), _start, (request, grid.task.name, store)) as pool:
        try:
            yield from gather(grid.runs, store, request.redo,
                              lambda item, fp32, hold: pool.submit(_run, item, fp32, request.redo, hold), _completed)
        except BrokenProcessPool as error:
            raise UserError("a worker process died, perhaps for want of memory; finished runs and blocks are kept, the "
                            "same command goes on from there, fewer --workers need less memory") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.terminate()
            raise


def _completed(futures: list[Future]) -> Iterable[tuple[Future, tuple[Record, bool] | None]]:
    return ((future, future.result()) for future in as_completed(futures))


def _start(request: Request, task: str, store: Store) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    progress.quiet()
    _executor.append(Executor(request.open_task(task), store, request.place(), request.batch_size, request.weights))


def _end_with_parent() -> None:
    wait([parent_process().sentinel])
    os._exit(1)


def _run(item: Run, fp32: dict | None, redo: Redo, hold: bool) -> tuple[Record, bool] | None:
    return _executor[0](item, fp32, redo, hold)
