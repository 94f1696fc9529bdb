"""Who is at a run: a lock that the system takes back however its owner ends, `kill -9` included."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from aiqvit.interfaces import UserError
from aiqvit.io.escape import line
from aiqvit.io.files import write_text
from aiqvit.io.locks import NO_LOCKS
from aiqvit.io.text import read_text

AGAIN = 10  # times that a folder is made again which somebody removes


@contextmanager
def claimed(path: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock file `path`, removed in the end; gives False when another process holds it and `wait` is not set.

    Who holds it stands in `<path>.owner`, for those who wait. On a file system without locks a run is claimed by all
    who want it, which is said once: they compute the same and write it whole, so this costs time and no numbers. Raises
    `UserError` when the lock file cannot be written.
    """
    lock, owner = FileLock(path), path.with_name(f"{path.name}.owner")
    try:
        mine = _acquired(lock, owner, wait)
    except NotImplementedError:
        mine = _unprotected(path.parent)
    except OSError as error:
        lock.release()
        if error.errno not in NO_LOCKS:
            raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
        mine = _unprotected(path.parent)
    try:
        if mine:
            with suppress(UserError, OSError):  # the disk may be full: who waits does without the name
                owner.unlink(missing_ok=True)  # whatever stands there
                write_text(owner, f"process {os.getpid()} on {platform.node()}")
        yield mine
    finally:
        if mine:
            for left in (owner, path):
                with suppress(OSError):
                    left.unlink()
            lock.release()


def _acquired(lock: FileLock, owner: Path, wait: bool) -> bool:
    for _ in range(AGAIN):
        owner.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # who was at the run before has removed the folder
            return _tried(lock, owner, wait)
    return _tried(lock, owner, wait)


def _tried(lock: FileLock, owner: Path, wait: bool) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            return False
        who = "another process"
        with suppress(OSError, ValueError):
            who = line(read_text(owner))[:200] or who
        run = Path(lock.lock_file).stem
        print(f"aiqvit: {run}: {who} is at this run; waiting for it", file=sys.stderr, flush=True)
        lock.acquire(poll_interval=0.2)
    return True


@cache
def _unprotected(folder: Path) -> bool:
    print(f"aiqvit: the file system of {str(folder)!r} has no locks: runs are not protected against a second process",
          file=sys.stderr, flush=True)
    return True
