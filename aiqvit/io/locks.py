"""Locks of files, on file systems that have them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}  # what file systems without `flock` say


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, removed in the end; without one where there are no locks.

    Who waited for it has to look again whether there is something left to do; two may hold it at once where a third
    came just when the file was removed. Raises `OSError` when it cannot be written.
    """
    lock = FileLock(path)
    try:
        with contextlib.suppress(NotImplementedError):
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
