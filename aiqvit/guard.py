"""What stands around each command: nothing ends in a traceback, and nothing is lost because a line cannot be shown.

Wrong input is one sentence and exit code 2. Whatever else goes wrong is one sentence too, with the path of a file that
has the traceback, and exit code 1. Output that the terminal or log cannot encode gets ASCII in its place; output that
nobody reads any more (`| head`, a closed terminal, a full disk under the log) is dropped while the work goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
import traceback
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from aiqvit.interfaces import UserError
from aiqvit.io import limits
from aiqvit.io.escape import line
from aiqvit.io.streams import lasting
from aiqvit.plugins import survey
from aiqvit.settings import SHOWN, read

survey()  # before anything reads what packages say of themselves; worker processes import their command, and so this


class Parser(ArgumentParser):
    """argparse whose errors are `UserError`, so that all wrong input is reported in one way."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, which takes `--flag=--` for a flag with an empty list."""
        found = super().parse_args(args, namespace)
        for action in self._actions:
            value = getattr(found, action.dest, None)
            if action.nargs is None and value is not action.default and value in ([], [[]]):
                self.error(f"{action.option_strings[0]}: expected one argument")
        return found

    def error(self, message: str) -> None:
        """Raise instead of printing the usage and exiting."""
        if found := re.fullmatch(r"argument (\S+): (.*: expected .*)", message, re.DOTALL):
            raise UserError(f"{found[1]} {found[2]}")
        typed = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        near = get_close_matches(typed[1], self._option_string_actions, n=1) if typed else []
        hint = f": did you mean {near[0]}?" if near else ""
        raise UserError(f"{message.removeprefix('argument ')}{hint} (--help shows all flags)")


def number(kind: Any) -> Callable[[str], Any]:
    """For `add_argument(type=...)`: reads a number of a type of `aiqvit.bounds`; the message of a wrong one has it."""

    def convert(text: str) -> Any:
        try:
            return read(kind, text)
        except ValueError as error:
            raise ArgumentTypeError(f"{text[:SHOWN]}: {error}") from error

    return convert


def auto(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """For `add_argument(type=...)`: what `convert` makes of a text, None of "auto"."""
    return lambda text: None if text == "auto" else convert(text)


def path(text: str) -> str:
    """For `add_argument(type=...)`: a path with `~` expanded, which a file can have."""
    found = os.path.expanduser(text)
    parts = map(os.fsencode, found.split("/"))
    if "\0" in found or len(found) > 2000 or max(map(len, parts)) > 255:
        raise ArgumentTypeError(f"{text[:SHOWN]}: expected a path whose names have at most 255 bytes")
    return found


def guarded(work: Callable[[], int], interrupted: str = "", arguments: Sequence[str] = (),
            name: str = "aiqvit") -> int:
    """The exit code of `work`: 2 for wrong input, 1 for what nobody foresaw, 130 when interrupted; each a sentence.

    `interrupted` is said behind an interruption; the log of a traceback goes to the folder that `arguments` name by
    `--out` if it is there, otherwise to the system's folder for temporary files.
    """
    with lasting():
        try:
            limits.check()
            return work()
        except UserError as error:
            _say(f"{name}: {error}")
            return 2
        except KeyboardInterrupt:
            _say(f"{name}: interrupted{interrupted}")
            return 130
        except SystemExit as error:
            if error.code in (None, 0):  # --help
                return 0
            _say(f"{name}: something called for an end of the program with exit code {error.code}{interrupted}")
            return 1
        except Exception as error:
            _say(f"{name}: stopped by an error that was not foreseen, {_first_line(error)}{_kept(error, arguments)}"
                 f"{interrupted}")
            return 1
        finally:
            sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.flush()
    print(line(text), file=sys.stderr, flush=True)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _kept(error: Exception, arguments: Sequence[str]) -> str:
    """Write the traceback; says where it is."""
    text = f"{' '.join(arguments)}\n\n{''.join(traceback.format_exception(error))}"
    name = time.strftime(f"aiqvit-error-%Y%m%d-%H%M%S-{os.getpid()}.log")
    for place in (lambda: _out(arguments), lambda: Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):  # there may be no folder at all for temporary files
            if (folder := place()) is not None and folder.is_dir():
                (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
                return f"; the traceback is in {str(folder / name)!r}"
    print(text, file=sys.stderr)
    return "; the traceback is printed above"


def _out(arguments: Sequence[str]) -> Path | None:
    """The folder that `--out` names, which may also be a file in it."""
    found = None
    for text, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if text == "--out" or text.startswith("--out="):
            found = Path(os.path.expanduser(following if text == "--out" else text.partition("=")[2]))
    return found if found is None or found.is_dir() else found.parent
