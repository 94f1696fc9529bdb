"""Standard output and error: what is shown cannot steer a terminal, and what cannot be shown stops no work.

Output that the terminal or log cannot encode gets ASCII in its place; output that nobody reads any more (`| head`, a
closed terminal, a full disk under the log) is dropped while the work goes on.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from aiqvit.io.escape import terminal

PLAIN = {"—": "-", "–": "-", "±": "+-", "×": "x", "…": "...", "’": "'", "→": "->", "≤": "<=", "≥": ">=", "µ": "u"}


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Standard output and error that never raise, for as long as a command runs."""
    before = sys.stdout, sys.stderr
    make_lasting()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def make_lasting() -> None:
    """The same from now on, for a process that does nothing else."""
    for number in range(3):  # a file that is opened later must not get the number of a closed standard stream
        with contextlib.suppress(OSError):
            _occupy(number)
    sys.stdout, sys.stderr = (stream if isinstance(stream, _Lasting) else _Lasting(stream)
                              for stream in (sys.stdout, sys.stderr))


def _occupy(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


class _Lasting:
    """A text stream that writes what can be shown, and drops everything once the other end is gone."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._gone = stream, stream is None
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors="aiqvit")

    def write(self, text: str) -> int:
        """Write, or drop."""
        self._tried(lambda: self._stream.write(terminal(text)))
        return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        self._tried(lambda: self._stream.flush())

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        with contextlib.suppress(OSError, ValueError):
            return not self._gone and self._stream.isatty()
        return False

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
