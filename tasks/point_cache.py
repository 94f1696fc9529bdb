"""Points of shapes in the cache, each file with a checksum of its content and of what it was made from."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aiqvit.tasks.cache import folder
from aiqvit.tasks.content import NOBODY, combined, digest
from safetensors.numpy import load, save

from aiqvit.interfaces import UserError
from aiqvit.io.files import read_bytes, write_bytes

Array = np.ndarray
FORMAT = 3  # of a file


class Sampled(NamedTuple):
    """Points of a shape and how many there were."""

    rows: Array  # (count, columns) float32
    total: int


def kept_rows(file: Path, part: Iterable[object], read: Callable[[], Array], count: int,
              columns: Sequence[int]) -> Sampled:
    """`count` evenly spaced rows of what `read` gives of a part of a file, from the cache where its content is known.

    They have one of these numbers of `columns`. What is damaged is read and written anew; a cache that cannot be used
    costs time, nothing else.
    """
    content = digest(file)
    key = combined([FORMAT, count, content, *part])
    with contextlib.suppress(OSError):
        path = folder() / "points" / f"{key[:32]}.safetensors"
        if (found := _checked(path, key, count, columns)) is not None:
            return found
    rows = read()
    made = Sampled(rows[np.arange(count) * len(rows) // count], len(rows))
    if content == NOBODY or content != digest(file):  # it changed while it was read
        return made
    with contextlib.suppress(OSError, UserError):
        parts = {"rows": np.ascontiguousarray(made.rows), "total": np.array([made.total])}
        write_bytes(folder() / "points" / f"{key[:32]}.safetensors", save(parts | {"check": _check(key, made)}))
    return made


def _checked(path: Path, key: str, count: int, columns: Sequence[int]) -> Sampled | None:
    """What a file has, where it is what `kept_rows` wrote under this key."""
    try:
        parts = load(read_bytes(path))
        found = Sampled(parts["rows"], int(parts["total"].item()))
        whole = np.array_equal(parts["check"], _check(key, found))
    except Exception:  # of the library, whatever a damaged file makes it raise
        return None
    fits = found.rows.dtype == np.float32 and found.rows.ndim == 2 and len(found.rows) == count
    return found if whole and fits and found.rows.shape[1] in columns and np.isfinite(found.rows).all() else None


def _check(key: str, found: Sampled) -> Array:
    text = f"{key} {found.rows.dtype} {found.rows.shape} {found.total}\n".encode()
    return np.frombuffer(hashlib.sha256(text + found.rows.tobytes()).digest(), np.uint8)
