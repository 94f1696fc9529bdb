"""Text files of points, one point a line: parsed once, checked, sampled, kept in the cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from aiqvit.tasks.cache import file_once, folder
from aiqvit.tasks.content import combined, digest

from aiqvit.interfaces import UserError

Array = np.ndarray


def read_points(path: Path, columns: int, count: int, delimiter: str | None = None) -> Array:
    """`count` evenly spaced rows of a file, (count, columns) float32; some more than once where it has fewer.

    Raises `UserError` that names the file and the first bad line.
    """
    identity = combined([digest(path), columns, count, delimiter])
    kept = folder() / "points" / f"{identity[:32]}.npy"
    with contextlib.suppress(OSError, ValueError):  # not there yet, or not readable: then it is parsed
        return np.load(kept, allow_pickle=False)
    rows = parse(path, columns, delimiter)
    rows = rows[np.arange(count) * len(rows) // count]
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        file_once(kept, lambda draft: np.save(draft, rows))
    return rows


def parse(path: Path, columns: int, delimiter: str | None = None) -> Array:
    """All rows of a file, (n, columns) float32. Raises `UserError` that names the file and the first bad line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or 'it is not text'}") from error
    if not any(line.strip() for line in lines):
        raise UserError(f"{str(path)!r} is empty: expected {columns} numbers a line")
    try:
        rows = np.loadtxt(lines, np.float32, comments=None, delimiter=delimiter, ndmin=2)
    except ValueError:
        rows = None
    if rows is None or rows.shape[1] != columns or not np.isfinite(rows).all():
        raise UserError(f"{str(path)!r}, {_first_fault(lines, columns, delimiter)}")
    return rows


def _first_fault(lines: Iterable[str], columns: int, delimiter: str | None) -> str:
    for number, line in enumerate(lines, 1):
        parts = line.split(delimiter)
        if line.strip() and len(parts) != columns:
            return f"line {number}: {len(parts)} columns instead of {columns}"
        for part in parts if line.strip() else ():
            try:
                fine = np.isfinite(float(part))
            except ValueError:
                fine = False
            if not fine:
                return f"line {number}: {part.strip()!r} is not a finite number"
    return "a number is too large"


def read_list(path: Path, what: str) -> list[str]:
    """Lines of a list file without blanks. Raises `UserError` when it is missing or empty; `what` is what it holds."""
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}: expected {what}")
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read as text: expected {what}") from error
    if not names:
        raise UserError(f"{str(path)!r} is empty: expected {what}")
    return names


def check_files(names: Iterable[str], paths: Iterable[Path], where: str) -> None:
    """Raise `UserError` for a file that is missing; `where` says what names it."""
    for name, path in zip(names, paths, strict=True):
        if not path.is_file():
            raise UserError(f"{where} names {name!r}, but there is no file {str(path)!r}")


def unit_sphere(points: Array) -> Array:
    """Points (N, 3+) with their coordinates centred at the origin and scaled into the unit sphere."""
    xyz = points[:, :3] - points[:, :3].mean(0)
    radius = np.sqrt(np.square(xyz).sum(1)).max()
    return np.concatenate([xyz / max(radius, 1e-12), points[:, 3:]], axis=1)
