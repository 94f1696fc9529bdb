"""Who is at a run: a lock that the system takes back however its owner ends, `kill -9` included."""

from __future__ import annotations

import fcntl
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiqvit.interfaces import UserError


@contextmanager
def claimed(path: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock file `path`, removed in the end; gives False when another process holds it and `wait` is not set.

    Raises `UserError` when it cannot be written.
    """
    handle = _locked(path, wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)


def _locked(path: Path, wait: bool) -> int | None:
    told = False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                os.close(handle)
                return None
            if not told:
                owner = os.read(handle, 200).decode(errors="replace") or "another process"
                print(f"aiqvit: {path.stem}: {owner} is at this run; waiting for it", file=sys.stderr, flush=True)
                told = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        if _is(handle, path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
            return handle
        os.close(handle)  # its owner has removed it meanwhile


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
