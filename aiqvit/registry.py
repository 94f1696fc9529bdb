"""Find methods and tasks by name, importing nothing until one is used.

    METHODS.names()              # ["fp32", "minmax", "repqvit", "aiqvit"], without importing torch
    METHODS.match("rep*")        # ["repqvit"]
    METHODS.get("aiqvit")        # the class, imported now

Built-in names stand in the tables of `baselines/__init__.py` and `tasks/__init__.py`. Another package adds its own
with an entry point of the group `aiqvit.methods` or `aiqvit.tasks`; a script adds one with `METHODS.register(...)`.
What is wrong with another package's costs its own rows and one line on standard error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Generic, TypeVar

from aiqvit import contract
from aiqvit.interfaces import Method, Task, UserError
from aiqvit.plugins import imported, points, say

T = TypeVar("T")
NAME = re.compile(r"(?!all$)[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")  # fit for lists, globs, brackets and run ids


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
        self._owners: dict[str, str] = {}  # packages of names that are not built in
        self._aliases: dict[str, str] = {}
        self._faults: dict[str, str] = {}  # of names whose class cannot be used
        self._read = False

    def register(self, name: str, target: str | type[T] | None = None, aliases: Iterable[str] = ()) -> Callable:
        """Add a class or a `"module:Class"` under `name`; without `target`, a decorator for the class.

        Raises `UserError` when the name or an alias is taken by something else, or no name.
        """
        if target is None:
            return lambda cls: self.register(name, cls, aliases)
        self._load_tables()
        self._add(name, target, "this program")
        for alias in aliases:
            if alias in self._entries or self._aliases.get(alias, name) != name:
                raise UserError(f"{self.kind} alias {alias!r} is already taken")
            self._aliases[alias] = name
        return target

    def names(self) -> list[str]:
        """All names in display order, aliases left out; importing nothing."""
        self._load_tables()
        return list(self._entries)

    def match(self, pattern: str) -> list[str]:
        """Names that a name, an alias, a glob or `all` means. Raises `UserError` with the nearest name."""
        names = self.names()
        return choose(self.kind, self._aliases.get(pattern, pattern), names)

    def usable(self, pattern: str) -> list[str]:
        """As `match`, but other packages' names whose class cannot be used are left out, with a line on stderr each.

        Raises `UserError` when nothing is left: what is wrong with the first.
        """
        matched, found, faults = self.match(pattern), [], []
        for name in matched:
            try:
                if name in self._owners:
                    self.get(name)
                found.append(name)
            except UserError as error:
                faults.append(error)
        if not found:
            raise faults[0]
        for error in faults:
            say(str(error))
        return found

    def owner(self, name: str) -> str:
        """The package that a name is from; empty for a built-in one."""
        self._load_tables()
        return self._owners.get(name, "")

    def get(self, name: str) -> type[T]:
        """Import and return the class. Raises `UserError` for an unknown name, or a class that cannot be used."""
        name = self._aliases.get(name, name)
        if name not in self.names():
            raise unknown(self.kind, name, self.names())
        if name in self._faults:
            raise UserError(self._faults[name])
        target = self._entries[name]
        try:
            cls = imported(target) if isinstance(target, str) else target
            contract.require(cls, self.base)
            self._check_title(name, cls)
        except UserError as error:
            owner = f" of {self._owners[name]}" if name in self._owners else ""
            self._faults[name] = f"{self.kind} {name!r}{owner} cannot be used: {error}"
            raise UserError(self._faults[name]) from error
        self._entries[name] = cls
        return cls

    def of_label(self, label: str) -> str:
        """The name that a label is of, `imagenet` of `imagenet-train-mini`: the longest; the label itself for none."""
        found = [name for name in self.names() if label == name or label.startswith(f"{name}-")]
        return max(found, key=len, default=label)

    def _check_title(self, name: str, cls: type[T]) -> None:
        """Raise `UserError` for a title of another package's method that a built-in one has: tables show titles."""
        title = str(getattr(cls, "title", "")).casefold().split()
        for other in self._entries if title and name in self._owners else ():
            if other not in self._owners and getattr(self.get(other), "title", "").casefold().split() == title:
                raise UserError(f"its title {cls.title!r} is that of the built-in {other!r}")

    def _add(self, name: str, target: str | type[T], owner: str = "") -> None:
        if not NAME.fullmatch(name):
            raise UserError(f"{name!r} of {owner} is no name for a {self.kind}: expected letters, digits and _.+-")
        known = self._entries.setdefault(name, target)
        if known is not target and known != target or name in self._aliases:
            raise UserError(f"{self.kind} {name!r} is registered twice: {self._aliases.get(name, known)} "
                            f"({self._owners.get(name, 'built in')}) and {target} ({owner}); the first is kept")
        if owner and known is target:
            self._owners.setdefault(name, owner)

    def _load_tables(self) -> None:
        if self._read:
            return
        self._read = True
        if self.table:
            module, _, attribute = self.table.partition(":")
            for name, target in getattr(import_module(module), attribute).items():
                self._add(name, target)
        for point in points(self.group) if self.group else ():
            try:
                self._add(point.name, point.target, point.owner)
            except UserError as error:
                say(str(error))


METHODS: Registry[Method] = Registry("method", Method, "aiqvit.baselines:METHODS", "aiqvit.methods")
TASKS: Registry[Task] = Registry("task", Task, "aiqvit.tasks:TASKS", "aiqvit.tasks")
