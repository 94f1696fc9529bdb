"""What the registered methods and tasks say about records: titles, notes, and the hash of today's source."""

from __future__ import annotations

from functools import cached_property

from aiqvit.harness.identity.sources import code_hash
from aiqvit.interfaces import UserError
from aiqvit.registry import METHODS, TASKS


class Registered:
    """See `aiqvit.report.records.Catalogue`; what cannot be imported here is left out."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], str] = {}

    @cached_property
    def methods(self) -> dict[str, tuple[str, str]]:
        """Registered name -> (title, note) in display order."""
        return {name: (METHODS.get(name).title, METHODS.get(name).note) for name in METHODS.usable("all")}

    def title(self, method: str) -> str:
        """See `Catalogue`."""
        return self.methods.get(method, (method, ""))[0]

    def source(self, method: str, task: str) -> str:
        """See `Catalogue`; `task` is a label, `imagenet-mini` of the task `imagenet`."""
        if (method, task) not in self._sources:
            name = next((n for n in TASKS.names() if task == n or task.startswith(f"{n}-")), None)
            try:
                known = method in self.methods and name
                self._sources[method, task] = code_hash(METHODS.get(method), TASKS.get(name)) if known else ""
            except UserError:
                self._sources[method, task] = ""
        return self._sources[method, task]
