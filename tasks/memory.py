"""Digests of files that earlier processes read, in a data base in the cache; each row has a checksum of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aiqvit.tasks.cache import folder

NAME = "content.sqlite"
TABLE = "CREATE TABLE contents (path TEXT PRIMARY KEY, stamp TEXT, digest TEXT, checksum TEXT)"
WAIT = 5  # seconds for another process
_given_up: set[Path] = set()  # data bases that this process waited for in vain

Row = tuple[str, str, str]  # path, stamp, digest


def remembered(names: Sequence[str]) -> dict[tuple[str, str], str]:
    """(path, stamp) -> digest of those of these paths that are known; nothing where the data base cannot be used."""
    found: dict[tuple[str, str], str] = {}

    def read(base: sqlite3.Connection) -> None:
        for name in names:
            for row in base.execute("SELECT path, stamp, digest, checksum FROM contents WHERE path = ?", (name,)):
                if all(isinstance(value, str) for value in row) and row[3] == _checksum(row[:3]):
                    found[row[:2]] = row[2]

    if names:
        _used(read)
    return found


def remember(rows: Sequence[Row]) -> None:
    """Keep these rows, where that can be done."""
    if rows:
        full = [(*row, _checksum(row)) for row in rows]
        _used(lambda base: base.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?)", full))


def _checksum(row: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(row).encode("utf-8", "surrogateescape")).hexdigest()


def _used(work: Callable[[sqlite3.Connection], Any]) -> None:
    """Work on the data base; one that is damaged or another one is replaced, once."""
    try:
        path = folder() / NAME
    except OSError:
        return
    for _ in range(2):
        if path in _given_up:
            return
        try:
            with _opened(path) as base:
                work(base)
            return
        except sqlite3.OperationalError:  # locked, or on a disk that is full or read-only
            _given_up.add(path)
        except (sqlite3.Error, OSError, ValueError):
            with contextlib.suppress(OSError):
                os.unlink(path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The data base. Raises `sqlite3.Error` or `OSError` when it cannot be used, `ValueError` for another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError("it is not a regular file")
    with contextlib.closing(sqlite3.connect(path, timeout=WAIT)) as base, base:
        base.execute("PRAGMA trusted_schema = OFF")
        has = [row[0] for row in base.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
        if not has:
            base.execute(TABLE.replace("TABLE", "TABLE IF NOT EXISTS"))
        elif has != [TABLE]:
            raise ValueError("it has other tables")
        yield base
