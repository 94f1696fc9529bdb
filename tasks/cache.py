"""Where derived data is kept: `$AIQVIT_CACHE` or `~/.cache/aiqvit`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def folder() -> Path:
    """The cache folder; it need not exist yet."""
    return Path(os.environ.get("AIQVIT_CACHE") or Path.home() / ".cache" / "aiqvit").expanduser()


def folder_once(name: str, write: Callable[[Path], None]) -> Path:
    """A folder in the cache that `write(draft)` fills unless it is there.

    It appears complete or not at all: it is written under a temporary name and renamed, and of two processes that do so
    at once the first wins.
    """
    root = folder() / name
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f"{name}-") as scratch:
        draft = Path(scratch) / "data"
        write(draft)
        try:
            os.rename(draft, root)
        except OSError:
            if not root.is_dir():
                raise
    return root


def file_once(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write(draft)` make a file that then appears at `path` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".draft-") as scratch:
        draft = Path(scratch) / path.name
        write(draft)
        draft.chmod(0o644)
        os.replace(draft, path)
