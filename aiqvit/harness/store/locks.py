"""Who is at a run: a lock that the system takes back however its owner ends, `kill -9` included."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from aiqvit.interfaces import UserError


@contextmanager
def claimed(path: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock file `path`, removed in the end; gives False when another process holds it and `wait` is not set.

    Who holds it stands in `<path>.owner`, for those who wait. Raises `UserError` when it cannot be written.
    """
    lock, owner = FileLock(path), path.with_name(f"{path.name}.owner")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = _acquired(lock, owner, wait)
        if mine:
            owner.write_text(f"process {os.getpid()} on {platform.node()}")
    except OSError as error:
        lock.release()
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    try:
        yield mine
    finally:
        if mine:
            owner.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            lock.release()


def _acquired(lock: FileLock, owner: Path, wait: bool) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            return False
        who = "another process"
        with suppress(OSError):
            who = owner.read_text(errors="replace")[:200] or who
        run = Path(lock.lock_file).stem
        print(f"aiqvit: {run}: {who} is at this run; waiting for it", file=sys.stderr, flush=True)
        lock.acquire(poll_interval=0.2)
    return True
