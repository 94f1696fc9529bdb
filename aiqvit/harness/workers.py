"""Runs of a grid side by side, each in a process of its own with a fixed number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from aiqvit.harness import progress, runner
from aiqvit.harness.request import Request
from aiqvit.harness.spec import Run
from aiqvit.harness.store import Record, Store, plain
from aiqvit.harness.sweep import Plan
from aiqvit.interfaces import UserError

_state: dict[str, Any] = {}  # of a worker process: what all its runs share, and the model it loaded last


def execute_side_by_side(grid: Plan, store: Store, force: bool, request: Request) -> Iterator[tuple[Run, Record, bool]]:
    """Yield every run of the grid as it ends, with its record and whether it was executed now.

    Full-precision runs come first, because the records of the others hold their metrics. Raises `UserError` when a
    worker process dies.
    """
    fp32: dict[str, dict] = {}
    with ProcessPoolExecutor(request.workers, get_context("spawn"), _start, (request, grid.task.name)) as pool:
        try:
            for reference in (True, False):
                running: dict[Future, Run] = {}
                for item in (r for r in grid.runs if r.reference == reference):
                    record = None if force else store.finished(item.spec.id)
                    if record is None:
                        running[pool.submit(_run, item, fp32.get(item.spec.model))] = item
                    else:
                        _remember(fp32, item, record)
                        yield item, record, False
                for future in as_completed(running):
                    item, record = running[future], future.result()
                    _remember(fp32, item, record)
                    store.write(record)
                    yield item, record, True
        except BrokenProcessPool as error:
            raise UserError("a worker process died, perhaps for want of memory; finished runs are kept, the same "
                            "command goes on from there, fewer --workers need less memory") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _remember(fp32: dict[str, dict], item: Run, record: Record) -> None:
    if item.reference and record["status"] == "done":
        fp32[item.spec.model] = record["fp32"] = record["metrics"]


def _start(request: Request, task: str) -> None:
    progress.quiet()
    _state.update(request=request, task=request.open_task(task), device=request.place(), subject=None)


def _run(item: Run, fp32: dict | None) -> Record:
    request, task, subject = _state["request"], _state["task"], _state["subject"]
    if subject is None or subject.name != item.spec.model:
        subject = _state["subject"] = task.load(item.spec.model, request.weights)
    return plain(runner.run(item, task, subject, _state["device"], request.batch_size, fp32))
