"""Regular files: read whole up to a bound, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from aiqvit.interfaces import UserError
from aiqvit.io.limits import limit, variable


def opened(path: str | Path) -> BinaryIO:
    """A regular file, open for reading; without waiting for one that is a pipe.

    Raises `OSError` for what is not there and for folders, pipes, sockets and devices, which may block or never end.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_bytes(path: str | Path, bound: str = "text_mib") -> bytes:
    """All of a regular file. Raises `OSError`, also for one beyond the bound of that name (`aiqvit.io.limits`)."""
    most = limit(bound) * 2 ** (30 if bound.endswith("_gib") else 20)
    with opened(path) as file:
        content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)  # asking for all would take the memory
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most // 2**20} MiB ({variable(bound)} sets the limit)",
                      str(path))
    return content


def own_folder(root: Path, name: str) -> Path:
    """`root/name`. Raises `UserError` for a link that leads out of `root`: a folder of somebody else may have one."""
    folder = root / name
    if folder.is_symlink() and not folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{str(folder)!r} is a link out of {str(root)!r}, to where nothing is written: put a folder in "
                        "its place, or link all of the results folder")
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing. Raises `UserError` when it cannot be written."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing, through a temporary file that reaches the disk before it takes the name.

    Whatever has the name is replaced, but for a device. Raises `UserError` when it cannot be written.
    """
    temporary = None
    try:
        if path.is_char_device() or path.is_block_device():
            raise UserError(f"cannot write {str(path)!r}: it is a device")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}-", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        if temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def check_place(path: Path) -> None:
    """Raise `UserError` where a file cannot be written, before the work that would fill it. Leaves nothing behind.

    Neither can one where a folder, a device, a pipe or a socket would have to make place for it.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
            raise UserError(f"cannot write {str(path)!r}: it is {what}")
    except (FileNotFoundError, NotADirectoryError):
        pass  # nothing is there
    except OSError as error:  # such as a name that is too long
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    try:
        tempfile.TemporaryFile(dir=next(folder for folder in path.absolute().parents if folder.exists())).close()
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
