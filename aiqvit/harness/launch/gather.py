"""What is handed out when, whoever executes it: the order of runs, serial or side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from aiqvit.harness.identity.spec import Run
from aiqvit.harness.run.executor import Finished, Redo, finished
from aiqvit.harness.store.records import Record, Store

Handle = TypeVar("Handle")
Submit = Callable[[Run, dict | None, bool], Handle]  # a run, its fp32 metrics, whether to wait for another process
Completed = Callable[[list[Handle]], Iterable[tuple[Handle, tuple[Record, bool] | None]]]


def gather(runs: Iterable[Run], store: Store, redo: Redo, submit: Submit, completed: Completed) -> Iterator[Finished]:
    """Yield every run once as it ends; `submit` starts one, `completed` yields what `Executor` gave for each then.

    Full-precision runs come first, because the records of the others hold their metrics; what another process is at
    comes last.
    """
    fp32: dict[str, dict] = {}
    runs = list({run.spec.id: run for run in runs}.values())
    for reference in (True, False):
        todo = [run for run in runs if run.reference == reference]
        for wait in (False, True):
            running, held = {}, []
            for item in todo:
                if record := finished(store, item, redo):
                    _remember(fp32, item, record)
                    yield item, record, False
                else:
                    running[submit(item, fp32.get(item.spec.model), wait)] = item
            for handle, ended in completed(list(running)):
                item = running[handle]
                if ended is None:
                    held.append(item)
                    continue
                _remember(fp32, item, ended[0])
                yield item, *ended
            todo = held


def _remember(fp32: dict[str, dict], item: Run, record: Record) -> None:
    if item.reference and record["status"] == "done":
        fp32[item.spec.model] = record["metrics"]
