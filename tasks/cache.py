"""Where derived data is kept: `$AIQVIT_CACHE` or `~/.cache/aiqvit`. What is read from it is checked, never believed."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from aiqvit.interfaces import UserError
from aiqvit.io.files import opened
from aiqvit.io.locks import alone

VARIABLE = "AIQVIT_CACHE"
SEAL = ".sha256"  # in a folder: what its files were when it was written
_spare: list[tempfile.TemporaryDirectory] = []  # in place of a cache that cannot be written, until this process ends


def folder() -> Path:
    """The cache folder; it need not exist yet. Raises `OSError` where nothing says where it is."""
    try:
        return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "aiqvit").expanduser().absolute()
    except RuntimeError as error:  # no home, or that of a user who is not there
        raise OSError(str(error)) from error


def folder_once(name: str, write: Callable[[Path], None]) -> Path:
    """A folder in the cache that `write(draft)` fills, unless it is there as it was written.

    It appears complete or not at all: it is written under a temporary name and renamed, by one process at a time. Where
    the cache cannot be written, it is a temporary folder of this process and its workers. Raises `UserError` when that
    cannot be written either.
    """
    try:
        return _folder_once(folder() / name, write)
    except OSError as error:
        why = _said(error)
        try:
            _spare.append(tempfile.TemporaryDirectory(prefix="aiqvit-"))
            os.environ[VARIABLE] = _spare[-1].name  # workers look there too
            found = _folder_once(folder() / name, write)
        except OSError as second:
            raise UserError(f"the embedded data cannot be written, neither to the cache ({why}) nor to a temporary "
                            f"folder ({_said(second)}): set {VARIABLE} to a folder with some MB") from second
    print(f"aiqvit: the cache cannot be used ({why}), so that a temporary folder takes its place: set "
          f"{VARIABLE} to a folder that can be written", file=sys.stderr)
    return found


def _folder_once(root: Path, write: Callable[[Path], None]) -> Path:
    if _is_whole(root):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with alone(root.with_name(f".{root.name}.lock")):
        if not _is_whole(root):  # it may be, by the process that was waited for
            _replace(root, write)
    return root


def _replace(root: Path, write: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f"{root.name}-", ignore_cleanup_errors=True) as scratch:
        draft = Path(scratch) / "data"
        write(draft)
        (draft / SEAL).write_text(_digest(draft), encoding="ascii")
        if os.path.lexists(root):
            os.rename(root, Path(scratch) / "damaged")
        os.rename(draft, root)


def _is_whole(root: Path) -> bool:
    """Whether a folder has the files that were written, unchanged, and no others."""
    try:
        with opened(root / SEAL) as file:
            return file.read(100) == _digest(root).encode()
    except OSError:
        return False


def _digest(root: Path) -> str:
    """SHA-256 of the names and contents of all files. Raises `OSError` for what is no regular file."""
    sha = hashlib.sha256()
    for place, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            if name != SEAL:
                path = os.path.join(place, name)
                with opened(path) as file:
                    content = hashlib.sha256(file.read()).hexdigest()
                sha.update(f"{os.path.relpath(path, root)} {content}\n".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


def _said(error: OSError) -> str:
    return error.strerror or str(error)
