"""What every launcher does with one run: claim it, execute it from where it was left, record it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Literal

from aiqvit.evaluation import Teacher
from aiqvit.harness.identity.spec import Run
from aiqvit.harness.run import runner
from aiqvit.harness.run.memory import keep_freed_memory
from aiqvit.harness.run.shared import Cache, OfRun
from aiqvit.harness.store.locks import claimed
from aiqvit.harness.store.partial import Partial
from aiqvit.harness.store.records import MODEL, Record, Store, changed_since, sealed
from aiqvit.harness.store.trust import revived
from aiqvit.interfaces import Subject, Task, UserError

Finished = tuple[Run, Record, bool]  # a run, its record, and whether it was executed now
Redo = Literal["failed", "stale", "all"]  # which runs are executed although they have a record


def finished(store: Store, item: Run, redo: Redo) -> Record | None:
    """The record of a run that need not be executed, or None; what a process killed just behind it left is removed."""
    run = item.spec.id
    record, folder, lock = _kept(store, item, redo), store.partial / run, store.partial / f"{run}.lock"
    if record and (folder.exists() or lock.exists()):
        with claimed(lock, wait=False) as mine:
            if mine:
                Partial(folder).clear()
    return record


def _kept(store: Store, item: Run, redo: Redo) -> Record | None:
    record = None if redo == "all" else store.finished(item.spec.id)
    if record and not set(item.metrics) <= record["metrics"].keys():
        return None
    if item.keep and not (store.models / f"{item.spec.id}{MODEL}").is_file():
        return None
    return None if record and redo == "stale" and changed_since(record, item.source) else record


class Executor:
    """Executes runs of one task in this process; keeps the model that it loaded last."""

    def __init__(self, task: Task, store: Store, device: str, batch_size: int, weights: str | None) -> None:
        self.task, self.store, self.device, self.batch_size, self.weights = task, store, device, batch_size, weights
        self._subject: Subject | None = None
        self._teacher: Teacher | None = None  # of that model
        self._cache = Cache()
        keep_freed_memory()

    def __call__(self, item: Run, fp32: dict | None, redo: Redo, wait: bool,
                 before: Callable[[], None] = lambda: None) -> tuple[Record, bool] | None:
        """The record of the run and whether it was executed now; one is read where `redo` leaves it.

        None when another process is at the run and `wait` is not set. `before` is called before it is executed.
        """
        if record := finished(self.store, item, redo):
            return record, False
        with claimed(self.store.partial / f"{item.spec.id}.lock", wait) as mine:
            if not mine:
                return None
            if record := _kept(self.store, item, redo):  # by the process that was waited for
                return record, False
            before()
            return self._executed(item, fp32, redo), True

    def _executed(self, item: Run, fp32: dict | None, redo: Redo) -> Record:
        checkpoint = Partial(self.store.partial / item.spec.id, item.source)
        if redo == "all":
            checkpoint.clear()
        subject = self.subject(item.spec.model)
        if subject.checksum != item.spec.weights:
            raise UserError(f"the weights of {item.spec.model} changed since the command began: start it again")
        models = self.store.models if item.keep else None
        record = runner.run(item, self.task, subject, self.device, self.batch_size, fp32, checkpoint, models,
                            self._teacher, partial(self.store.write_outcomes, item.spec.id), OfRun(self._cache, item))
        if item.reference:
            record["fp32"] = record["metrics"]
        record = _sealed(item, record)
        self.store.write(record)
        record = revived(record)
        if record["status"] == "done":  # a failed run, out of memory perhaps, is retried from its last unit
            checkpoint.clear()
        return record

    def subject(self, model: str) -> Subject:
        """The model with its weights."""
        if self._subject is None or self._subject.name != model:
            self._subject = self.task.load(model, self.weights)
            self._teacher = Teacher(deepcopy(self._subject.model))
        return self._subject


def _sealed(item: Run, record: Record) -> Record:
    """The record to store: a failed one where method or task gave what could not be read again."""
    try:
        return sealed(record)
    except (ValueError, RecursionError) as error:
        failed = runner.empty_record(item, None, record["manifest"])
        return sealed(failed | {"error": runner.describe(TypeError(f"method or task gave no proper result: {error}"))})
