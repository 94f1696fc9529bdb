"""Text files of points, one point a line: looked at, parsed once, checked, sampled, kept in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aiqvit.tasks.point_cache import Array, Sampled, kept_rows
from aiqvit.tasks.texts import decoded

from aiqvit.interfaces import UserError
from aiqvit.io.files import opened, read_bytes

HEAD = 4096  # bytes of a file that are looked at when the task opens
LINES, LONGEST = 2_000_000, 10_000  # of a file, and characters of one
COMMENTS = ("#", "//", "%", ";")


class Form(NamedTuple):
    """How a file is written."""

    delimiter: str | None  # None: blanks or tabs
    skip: int  # lines before the first point
    columns: int


def read_points(path: Path, columns: Sequence[int], count: int) -> Sampled:
    """`count` evenly spaced rows of a text file with one of these numbers of columns; it may have fewer rows.

    Raises `UserError` that names the file and the first bad line.
    """
    return kept_rows(path, [*columns, "text"], lambda: parse(path, columns), count, columns)


def look(path: Path, columns: Sequence[int]) -> Form:
    """The form of a file by its first lines. Raises `UserError` that names the file and the line."""
    try:
        with opened(path) as file:
            content = file.read(HEAD + 1)
        lines = decoded(content[:HEAD], whole=len(content) <= HEAD).splitlines()
        form = _form(path, lines[:-1] if len(content) > HEAD else lines, columns)
        return form or _form(path, _lines(path), columns) or _empty(path, columns)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def parse(path: Path, columns: Sequence[int]) -> Array:
    """All rows of a file, (n, columns) float32. Raises `UserError` that names the file and the first bad line."""
    try:
        lines = _lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    form = _form(path, lines, columns) or _empty(path, columns)
    try:
        rows = np.loadtxt(lines[form.skip:], np.float64, comments=None, delimiter=form.delimiter, ndmin=2)
    except ValueError:
        rows = None
    if rows is None or rows.shape[1] != form.columns or not np.isfinite(rows := tamed(rows)).all():
        raise UserError(f"{str(path)!r}, {_first_fault(lines, form)}")
    return rows


def _lines(path: Path) -> list[str]:
    """Lines of a file. Raises `UserError` for more, or longer ones, than a shape has."""
    text = decoded(read_bytes(path))
    if text.count("\n") > LINES:
        raise UserError(f"{str(path)!r} has more than {LINES} lines")
    lines = text.splitlines()
    if long := next((i for i, line in enumerate(lines, 1) if len(line) > LONGEST and line[0] not in "#/%;"), 0):
        raise UserError(f"{str(path)!r}, line {long} is longer than {LONGEST} characters")
    return lines


def tamed(rows: Array) -> Array:
    """Rows (n, 3+) as float32; coordinates that it holds badly, huge, tiny or far from the origin, are scaled first.

    Shapes are centred and scaled into the unit sphere anyway, so that this changes nothing else.
    """
    xyz = rows[:, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        size, far = np.ptp(xyz, axis=0).max(), np.abs(xyz).max()
        if 0 < size < np.inf and (far > 1000 * size or not 1e-6 < size < 1e6):
            rows = np.concatenate([(xyz - xyz[:1]) / size, rows[:, 3:]], axis=1)
        return rows.astype(np.float32)


def _form(path: Path, lines: Sequence[str], columns: Sequence[int]) -> Form | None:
    """By the first line with a point; None without one. In front may be comments, names of columns, a count."""
    names: list[str] = []
    counted = False
    for number, line in enumerate(lines):
        text = line.strip()
        if not text or text.startswith(COMMENTS):
            continue
        delimiter = next((mark for mark in ",;" if mark in text), None)
        parts = text.split(delimiter)
        if not names and not any(map(_is_number, parts)):
            names = [part.strip(" \t\"'").lower() for part in parts]
        elif not counted and len(parts) == 1 and text.isdecimal() and 1 not in columns:
            counted = True
        else:
            form = Form(delimiter, number, len(parts))
            if "x" in names and names[:3] != ["x", "y", "z"]:
                raise UserError(f"{str(path)!r}: its columns are {', '.join(names)}: expected x, y, z first")
            if form.columns not in columns:
                raise UserError(f"{str(path)!r}, line {number + 1}: {_instead(form.columns, columns)}")
            if not all(_is_finite(part) for part in parts):
                raise UserError(f"{str(path)!r}, {_first_fault(lines, form)}")
            return form
    return None


def _first_fault(lines: Sequence[str], form: Form) -> str:
    for number, line in enumerate(lines[form.skip:], form.skip + 1):
        parts = line.split(form.delimiter)
        if line.strip() and len(parts) != form.columns:
            return f"line {number}: {_instead(len(parts), [form.columns])}"
        for part in parts if line.strip() else ():
            if not _is_finite(part):
                return f"line {number}: {part.strip()!r} is not a finite number"
    return "a number is too large"


def _instead(found: int, columns: Sequence[int]) -> str:
    return f"{found} columns instead of {' or '.join(map(str, columns))}"


def _empty(path: Path, columns: Sequence[int]) -> Form:
    raise UserError(f"{str(path)!r} is empty: expected {' or '.join(map(str, columns))} numbers a line")


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or 'it is not text'}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_finite(text: str) -> bool:
    return _is_number(text) and bool(np.isfinite(float(text)))


def unit_sphere(points: Array) -> Array:
    """Points (N, 3+) with their coordinates centred at the origin and scaled into the unit sphere."""
    xyz = points[:, :3] - points[:, :3].mean(0)
    radius = np.sqrt(np.square(xyz).sum(1)).max()
    return np.concatenate([xyz / max(radius, 1e-12), points[:, 3:]], axis=1)
