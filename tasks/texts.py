"""Small text files as people have them: with a byte order mark, with the line ends of Windows, with `~` in paths."""

from __future__ import annotations

import codecs
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiqvit.interfaces import UserError
from aiqvit.io import text as texts
from aiqvit.io.structure import parse_json

LONGEST = 1000  # characters of a name or a path
MOST = 200_000  # entries of a list, such as shapes
ENDS = "\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # of lines, as `str.splitlines` takes them
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decoded(content: bytes, whole: bool = True) -> str:
    """UTF-8, or UTF-16 where a byte order mark says so; the mark is removed. The end may be cut unless `whole`.

    Raises `UnicodeDecodeError` for what is not text.
    """
    encoding = "utf-16" if content.startswith(WIDE) else "utf-8-sig"
    return codecs.getincrementaldecoder(encoding)().decode(content, final=whole)


def read_text(path: Path, what: str, bound: str = "text_mib") -> str:
    """All of a file. Raises `UserError` when it is missing, not text or beyond `bound` (`aiqvit.io.limits`).

    `what` is what it should hold.
    """
    if not is_file(path):
        raise UserError(f"no file {str(path)!r}: expected {what}")
    try:
        return texts.read_text(path, bound)
    except (OSError, UnicodeError) as error:
        said = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise UserError(f"{str(path)!r} cannot be read as text{said}: expected {what}") from error


def read_lines(path: Path, what: str, most: int = MOST) -> list[str]:
    """All lines, without the blanks around them. Raises `UserError` as `read_text` does, and for more than `most`.

    `what` is what it holds.
    """
    text = read_text(path, what)
    if sum(map(text.count, ENDS)) > most:  # before each line is an object
        raise UserError(f"{str(path)!r} has more than {most} lines: expected {what}")
    return [line.strip() for line in text.splitlines()]


def read_list(path: Path, what: str, most: int = MOST) -> list[str]:
    """Lines that are not blank. Raises `UserError` when the file is missing, has none, or a line is too long.

    `what` is what it holds, `most` how many lines it may have.
    """
    lines = read_lines(path, what, most)
    if not any(lines):
        raise UserError(f"{str(path)!r} is empty: expected {what}")
    if long := next((i for i, line in enumerate(lines, 1) if len(line) > LONGEST), 0):
        raise UserError(f"{str(path)!r}, line {long} is longer than {LONGEST} characters: expected {what}")
    return [line for line in lines if line]


def first_twice(names: Sequence[str]) -> str | None:
    """The first name that was there before, if any."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)


def read_json(path: Path, what: str, bound: str = "text_mib", nan: bool = False, most: int | None = None) -> Any:
    """The value in a JSON file, also NaN if `nan`. Raises `UserError` when it is missing or not JSON.

    `what` is what it holds, `most` how many entries it may have, all lists and tables in it together.
    """
    text = read_text(path, what, bound)
    if most is not None and text.count(",") > most:  # before each entry is an object
        raise UserError(f"{str(path)!r} has more than {most} entries: expected {what}")
    if not text.strip():
        raise UserError(f"{str(path)!r} is empty: expected {what}")
    try:
        return parse_json(text, nan)
    except ValueError as error:
        raise UserError(f"{str(path)!r} is not JSON ({error}): expected {what}") from error


def located(entry: str, *folders: Path) -> Path:
    """Where a list's entry is: as it stands, `~` expanded, or in the first of the folders that has it.

    The folders are also searched for the entry's last part alone; without any the path in the first folder is given.
    """
    path = expanded(entry.strip().replace("\\", "/"))
    if path.is_absolute() and is_file(path):
        return path
    places = [folder / part for part in (path, path.name) for folder in folders]
    return next((place for place in places if is_file(place)), places[0])


def is_file(path: Path) -> bool:
    """Whether there is a regular file; not for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def expanded(path: str | Path) -> Path:
    """The path with `~` expanded, where there is such a home. Raises `UserError` for what no file can be called."""
    found = os.path.expanduser(path)
    try:
        os.lstat(found)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise UserError(f"no file or folder can be called {found[:80]!r}...: give a shorter path") from error
    return Path(found)
