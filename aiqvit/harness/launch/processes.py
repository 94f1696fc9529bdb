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
from aiqvit.io.streams import make_lasting

_executor: list[Executor | UserError] = []  # of a worker process, or why it has none


def execute_side_by_side(grid: Plan, store: Store, request: Request, workers: int) -> Iterator[Finished]:
    """Yield every run of the grid as it ends, with its record and whether it was executed now.

    Raises `UserError` when a worker process dies or cannot be started.
    """
    try:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start, (request, grid.task.name, store))
    except OSError as error:
        raise _not_started(error) from error

    def submit(item: Run, fp32: dict | None, hold: bool) -> Future:
        try:
            return pool.submit(_run, item, fp32, request.redo, hold)
        except (OSError, RuntimeError) as error:  # no process, or no thread that looks after it
            raise error if isinstance(error, BrokenProcessPool) else _not_started(error) from error

    with pool:
        try:
            yield from gather(grid.runs, store, request.redo, submit, _completed)
        except BrokenProcessPool as error:
            raise UserError("a worker process died, perhaps for want of memory; finished runs and blocks are kept, the "
                            "same command goes on from there, fewer --workers need less memory") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.terminate()
            raise


def _not_started(error: Exception) -> UserError:
    return UserError(f"a worker process cannot be started: {getattr(error, 'strerror', None) or error}; fewer "
                     "--workers may do")


def _completed(futures: list[Future]) -> Iterable[tuple[Future, tuple[Record, bool] | None]]:
    return ((future, future.result()) for future in as_completed(futures))


def _start(request: Request, task: str, store: Store) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    make_lasting()
    progress.quiet()
    try:
        made = Executor(request.open_task(task), store, request.place(), request.batch_size, request.weights)
    except UserError as error:  # the data may have gone meanwhile
        made = error
    _executor.append(made)


def _end_with_parent() -> None:
    wait([parent_process().sentinel])
    os._exit(1)


def _run(item: Run, fp32: dict | None, redo: Redo, hold: bool) -> tuple[Record, bool] | None:
    if isinstance(execute := _executor[0], UserError):
        raise execute
    return execute(item, fp32, redo, hold)
