"""Find methods and tasks by name, importing nothing until one is used.

    METHODS.names()              # ["fp32", "minmax", "repqvit", "aiqvit"], without importing torch
    METHODS.match("rep*")        # ["repqvit"]
    METHODS.get("aiqvit")        # the class, imported now

Built-in names stand in the tables of `baselines/__init__.py` and `tasks/__init__.py`. Another package adds its own
with an entry point of the group `aiqvit.methods` or `aiqvit.tasks`; a script adds one with `METHODS.register(...)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from aiqvit.interfaces import Method, Task, UserError

T = TypeVar("T")


def unknown(kind: str, name: str, names: Iterable[str]) -> UserError:
    """The error for a name that does not exist: it gives the nearest one and all there are."""
    names = list(names)
    near = get_close_matches(name, names, n=1, cutoff=0.5) or [n for n in names if name and n.startswith(name)]
    hint = f": did you mean {near[0]!r}?" if near else "."
    return UserError(f"unknown {kind} {name!r}{hint} Available: {', '.join(names) or 'none'}")


def choose(kind: str, pattern: str, names: Iterable[str]) -> list[str]:
    """Names that `pattern` (a name, a glob with `*` or `?`, or `all`) means. Raises `UserError` for no match."""
    names = list(names)
    if pattern == "all":
        return names
    found = [n for n in names if n == pattern or ("*" in pattern or "?" in pattern) and fnmatchcase(n, pattern)]
    if not found:
        raise unknown(kind, pattern, names)
    return found


class Registry(Generic[T]):
    """Names of classes derived from `base`, each a class or a lazy `"module:Class"`."""

    def __init__(self, kind: str, base: type[T], table: str = "", group: str = "") -> None:
        """`table` is a lazy `"module:NAME"` dictionary, `group` an entry point group; both are read on first use."""
        self.kind, self.base, self.table, self.group = kind, base, table, group
        self._entries: dict[str, str | type[T]] = {}
        self._aliases: dict[str, str] = {}
        self._read = False

    def register(self, name: str, target: str | type[T] | None = None, aliases: Iterable[str] = ()) -> Callable:
        """Add a class or a `"module:Class"` under `name`; without `target`, a decorator for the class.

        Raises `UserError` when the name or an alias is taken by something else.
        """
        if target is None:
            return lambda cls: self.register(name, cls, aliases)
        self._load_tables()
        self._add(name, target)
        for alias in aliases:
            if alias in self._entries or self._aliases.get(alias, name) != name:
                raise UserError(f"{self.kind} alias {alias!r} is already taken")
            self._aliases[alias] = name
        return target

    def names(self) -> list[str]:
        """All names in display order, aliases left out."""
        self._load_tables()
        return list(self._entries)

    def match(self, pattern: str) -> list[str]:
        """Names that a name, an alias, a glob or `all` means. Raises `UserError` with the nearest name."""
        names = self.names()
        return choose(self.kind, self._aliases.get(pattern, pattern), names)

    def get(self, name: str) -> type[T]:
        """Import and return the class. Raises `UserError` for an unknown name or a class of another kind."""
        name = self.match(name)[0]
        target = self._entries[name]
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            try:
                target = getattr(import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                raise UserError(f"{self.kind} {name!r} cannot be imported from {target!r}: {error}") from error
            self._entries[name] = target
        if not (isinstance(target, type) and issubclass(target, self.base)):
            raise UserError(f"{self.kind} {name!r}: {target!r} is not a subclass of {self.base.__name__}")
        return target

    def _add(self, name: str, target: str | type[T]) -> None:
        known = self._entries.setdefault(name, target)
        if known is not target and known != target or name in self._aliases:
            raise UserError(f"{self.kind} {name!r} is registered twice: {self._aliases.get(name, known)} and {target}")

    def _load_tables(self) -> None:
        if self._read:
            return
        self._read = True
        if self.table:
            module, _, attribute = self.table.partition(":")
            for name, target in getattr(import_module(module), attribute).items():
                self._add(name, target)
        if self.group:
            for point in sorted(entry_points(group=self.group), key=lambda p: p.name):
                self._add(point.name, point.value)


METHODS: Registry[Method] = Registry("method", Method, "aiqvit.baselines:METHODS", "aiqvit.methods")
TASKS: Registry[Task] = Registry("task", Task, "aiqvit.tasks:TASKS", "aiqvit.tasks")
