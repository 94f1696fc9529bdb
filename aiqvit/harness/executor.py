"""What every launcher does with one run: claim it, execute it from where it was left, record it."""

from __future__ import annotations

from collections.abc import Callable

from aiqvit.harness import runner
from aiqvit.harness.claims import claimed
from aiqvit.harness.memory import keep_freed_memory
from aiqvit.harness.partial import Partial
from aiqvit.harness.spec import Run
from aiqvit.harness.store import Record, Store, plain
from aiqvit.interfaces import Subject, Task

Ended = tuple[Run, Record, bool]  # a run, its record, and whether it was executed now


def finished(store: Store, run: str) -> Record | None:
    """The record of a run that ended well, or None; what a process killed just behind it left is removed."""
    record, folder, lock = store.finished(run), store.partial / run, store.partial / f"{run}.lock"
    if record and (folder.exists() or lock.exists()):
        with claimed(lock, wait=False) as mine:
            if mine:
                Partial(folder).clear()
    return record


class Executor:
    """Executes runs of one task in this process; keeps the model that it loaded last."""

    def __init__(self, task: Task, store: Store, device: str, batch_size: int, weights: str | None) -> None:
        self.task, self.store, self.device, self.batch_size, self.weights = task, store, device, batch_size, weights
        self._subject: Subject | None = None
        keep_freed_memory()

    def __call__(self, item: Run, fp32: dict | None, force: bool, wait: bool,
                 before: Callable[[], None] = lambda: None) -> tuple[Record, bool] | None:
        """The record of the run and whether it was executed now; a finished one is read, unless `force`.

        None when another process is at the run and `wait` is not set. `before` is called before it is executed.
        """
        run = item.spec.id
        if not force and (record := finished(self.store, run)):
            return record, False
        with claimed(self.store.partial / f"{run}.lock", wait) as mine:
            if not mine:
                return None
            if not force and (record := self.store.finished(run)):  # by the process that was waited for
                return record, False
            before()
            return self._executed(item, fp32, force), True

    def _executed(self, item: Run, fp32: dict | None, force: bool) -> Record:
        checkpoint = Partial(self.store.partial / item.spec.id)
        if force:
            checkpoint.clear()
        record = plain(runner.run(item, self.task, self.subject(item.spec.model), self.device, self.batch_size, fp32,
                                  checkpoint))
        if item.reference:
            record["fp32"] = record["metrics"]
        self.store.write(record)
        if record["status"] == "done":  # a failed run, out of memory perhaps, is retried from its last unit
            checkpoint.clear()
        return record

    def subject(self, model: str) -> Subject:
        """The model with its weights."""
        if self._subject is None or self._subject.name != model:
            self._subject = self.task.load(model, self.weights)
        return self._subject
