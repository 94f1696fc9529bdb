"""What stands around each command: nothing ends in a traceback, and nothing is lost because a line cannot be shown.

Wrong input is one sentence and exit code 2. Whatever else goes wrong is one sentence too, with the path of a file that
has the traceback, and exit code 1. Output that the terminal or log cannot encode gets ASCII in its place; output that
nobody reads any more (`| head`, a closed terminal, a full disk under the log) is dropped while the work goes on.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
import tempfile
import time
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from aiqvit.interfaces import UserError

PLAIN = {"—": "-", "–": "-", "±": "+-", "×": "x", "…": "...", "’": "'", "→": "->", "≤": "<=", "≥": ">=", "µ": "u"}

NUMBERS = {"int": "a whole number", "float": "a number"}


class Parser(ArgumentParser):
    """argparse whose errors are `UserError`, so that all wrong input is reported in one way."""

    def error(self, message: str) -> None:
        """Raise instead of printing the usage and exiting."""
        found = re.fullmatch(r"argument (\S+): invalid (int|float) value: (.*)", message, re.DOTALL)
        if found:
            raise UserError(f"{found[1]} {found[3].strip(chr(39))}: expected {NUMBERS[found[2]]}")
        typed = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        near = get_close_matches(typed[1], self._option_string_actions, n=1) if typed else []
        hint = f": did you mean {near[0]}?" if near else ""
        raise UserError(f"{message.removeprefix('argument ')}{hint} (--help shows all flags)")


def guarded(work: Callable[[], int], interrupted: str = "", arguments: Sequence[str] = (),
            name: str = "aiqvit") -> int:
    """The exit code of `work`: 2 for wrong input, 1 for what nobody foresaw, 130 when interrupted; each a sentence.

    `interrupted` is said behind an interruption; the log of a traceback goes to the folder that `arguments` name by
    `--out` if it is there, otherwise to the system's folder for temporary files.
    """
    with _lasting():
        try:
            return work()
        except UserError as error:
            _say(f"{name}: {error}")
            return 2
        except KeyboardInterrupt:
            _say(f"{name}: interrupted{interrupted}")
            return 130
        except Exception as error:
            _say(f"{name}: stopped by an error that was not foreseen, {_first_line(error)}{_kept(error, arguments)}"
                 f"{interrupted}")
            return 1
        finally:
            sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.flush()
    print(" ".join(text.splitlines()), file=sys.stderr, flush=True)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _kept(error: Exception, arguments: Sequence[str]) -> str:
    """Write the traceback; says where it is."""
    text = f"{' '.join(arguments)}\n\n{''.join(traceback.format_exception(error))}"
    name = time.strftime(f"aiqvit-error-%Y%m%d-%H%M%S-{os.getpid()}.log")
    for folder in (_out(arguments), Path(tempfile.gettempdir())):
        if folder is not None and folder.is_dir():
            with contextlib.suppress(OSError):
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


@contextlib.contextmanager
def _lasting() -> Iterator[None]:
    """Standard output and error that never raise, for as long as a command runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream if isinstance(stream, _Lasting) else _Lasting(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Lasting:
    """A text stream that writes what can be shown, and drops everything once the other end is gone."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._gone = stream, stream is None
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors="aiqvit")

    def write(self, text: str) -> int:
        """Write, or drop."""
        self._tried(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        self._tried(lambda: self._stream.flush())

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        return not self._gone and self._stream.isatty()

    def _tried(self, action: Callable[[], Any]) -> None:
        if self._gone:
            return
        try:
            action()
        except (OSError, ValueError):  # the reader has gone, the disk is full, the stream is closed
            self._gone = True
            with contextlib.suppress(OSError, ValueError, AttributeError):  # what is buffered must not fail at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error("aiqvit", _in_ascii)
