"""What other installed packages add: found and imported so that whatever is wrong with one costs its own part only.

Each fault is said once, on one line of standard error.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import Distribution, EntryPoints, distributions
from multiprocessing import parent_process
from typing import Any, NamedTuple

from aiqvit.interfaces import UserError
from aiqvit.io.escape import line

GROUPS = ("aiqvit.methods", "aiqvit.tasks", "aiqvit.families")
LONGEST = 200  # characters of another package's text in a message


class Point(NamedTuple):
    """An entry point."""

    name: str
    target: str
    owner: str  # the package, for messages


@cache
def say(text: str) -> None:
    """A line on standard error, once, and not in worker processes, whose parent has said it."""
    if parent_process() is None and sys.stderr is not None:
        print(f"aiqvit: {line(text)}", file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    """Type and first line of an error of somebody else's, which may fail to become text."""
    try:
        text = line(str(error).strip().partition("\n")[0])[:LONGEST]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def points(group: str) -> list[Point]:
    """Entry points of one of `GROUPS`, by name."""
    return survey()[group]


@cache
def survey() -> dict[str, list[Point]]:
    """All entry points by group; metadata that cannot be read is said and left out, for the whole process."""
    found: dict[str, list[Point]] = {group: [] for group in GROUPS}
    seen: set[str] = set()
    for distribution in distributions():
        try:
            ours = [point for point in distribution.entry_points if point.group in found]
        except Exception as error:
            _hide_unreadable()
            say(f"{_owner(distribution)} is left out, its entry points cannot be read: {reason(error)}")
            continue
        owner = _owner(distribution) if ours else ""
        if owner not in seen:  # the first on the path is the one that is imported
            for point in ours:
                found[point.group].append(Point(point.name, point.value, owner))
        seen.add(owner)
    return {group: sorted(listed) for group, listed in found.items()}


@cache
def _hide_unreadable() -> None:
    """Let entry points that cannot be read be none: torch and others read all there are when they are imported."""
    read: Any = Distribution.entry_points

    def entry_points(self: Distribution) -> EntryPoints:
        try:
            return read.__get__(self)
        except Exception:
            return EntryPoints(())

    Distribution.entry_points = property(entry_points)  # type: ignore[method-assign, assignment]


def _owner(distribution: Distribution) -> str:
    try:
        return f"package {line(distribution.metadata['Name'])[:LONGEST]!r}"
    except Exception:
        return f"a package without a name in {str(distribution.locate_file(''))!r}"


def imported(target: str) -> Any:
    """What `"module:attribute"` names. Raises `UserError` whatever goes wrong, but for an interrupt.

    What the module prints meanwhile is kept from standard output; its first line is said.
    """
    module, _, attribute = target.partition(":")
    out, err, folder = _Held(sys.stdout), _Held(sys.stderr), _folder()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):  # type: ignore[type-var]
            found = import_module(module)
            for name in attribute.split("."):
                found = getattr(found, name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit: a module may end the program when it misses something
        raise UserError(f"{target!r} cannot be imported: {reason(error)}") from error
    finally:
        printed = out.released() + err.released()
        if folder and folder != _folder():  # relative paths of the command line count from there
            os.chdir(folder)
    if lines := printed.strip().splitlines():
        more = f" (and {len(lines) - 1} more lines)" if len(lines) > 1 else ""
        say(f"{target!r} printed while it was imported: {line(lines[0])[:LONGEST]}{more}")
    return found


def _folder() -> str:
    """The current folder; empty when it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return ""


class _Held:
    """A stream that keeps what is written until it is released; a module may hold on to it, as loggers do."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._kept, self._holds = stream, io.StringIO(), True

    def write(self, text: str) -> int:
        """Keep the text, or pass it on."""
        return (self._kept if self._holds else self._stream).write(text)

    def released(self) -> str:
        """What was kept; from now on everything is passed on."""
        self._holds = False
        return self._kept.getvalue()

    def close(self) -> None:
        """Nothing: the stream is not the module's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
