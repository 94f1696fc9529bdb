"""What the registered methods and tasks say about records: titles, notes, presets, and the hash of today's source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from aiqvit.harness.identity.sources import code_hash
from aiqvit.harness.identity.spec import version_text
from aiqvit.harness.launch.options import MethodSpec
from aiqvit.interfaces import Task, UserError
from aiqvit.registry import METHODS, TASKS
from aiqvit.report.records import About


class Registered:
    """See `aiqvit.report.records.Catalogue`; what cannot be imported here is left out."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, str], str] = {}

    @cached_property
    def methods(self) -> dict[str, About]:
        """Registered name -> what the method says of itself, in display order."""
        found = {name: METHODS.get(name) for name in METHODS.usable("all")}
        return {name: About(method.title, method.note, method.fairness) for name, method in found.items()}

    def title(self, method: str) -> str:
        """See `Catalogue`."""
        return self.methods.get(method, About(method)).title

    def source(self, method: str, task: str) -> str:
        """See `Catalogue`; `task` is a label, `imagenet-mini` of the task `imagenet`."""
        if (method, task) not in self._sources:
            found = self._both(method, task)
            try:
                self._sources[method, task] = code_hash(*found) if found else ""
            except (OSError, SyntaxError, TypeError, ValueError):  # a class without a source file that can be read
                self._sources[method, task] = ""
        return self._sources[method, task]

    def preset(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Catalogue`.

        They say nothing about runs of another version, which had defaults of their own, nor where the task bounds
        defaults by its data; but of runs of before there were versions they are all that is known.
        """
        found = self._both(spec["method"], spec["task"])
        if not found:
            return {}
        method, task = found
        version = spec.get("version")
        if version and (version != version_text(method, task) or task.limits is not Task.limits):
            return {}
        return MethodSpec(spec["method"], method, {}).defaults(spec["preset"])

    def newer(self, spec: Mapping[str, Any]) -> bool:
        """See `Catalogue`."""
        found = self._both(spec["method"], spec["task"])
        said, today = (re.findall(r"[0-9]{1,9}", text) for text in (
            str(spec.get("version", "")), version_text(*found) if found else ""))
        return any(int(one) > int(other) for one, other in zip(said, today, strict=False))

    def _both(self, method: str, task: str) -> tuple[type, type] | None:
        """The classes, or None where one of them is not here."""
        try:
            return (METHODS.get(method), TASKS.get(TASKS.of_label(task))) if method in self.methods else None
        except UserError:
            return None
