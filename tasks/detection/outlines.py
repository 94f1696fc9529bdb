"""Masks of annotations before COCO's tools see them: those are C, which trusts every length and every coordinate."""

from __future__ import annotations

from typing import Any

import numpy as np

Size = tuple[int, int]  # height and width of the picture
POLYGONS, PERIMETER = 10_000, 4e6  # of one object, and pixels around all of them; more would take all memory
LONGEST = 6  # characters of a run in compressed form: five bits each


def usable_polygons(value: list, size: Size) -> list | None:
    """Those of at least three finite points on or near the picture; None where there are none, or endless ones."""
    found, around = [], 0.0
    for points in value[: POLYGONS + 1]:
        if not isinstance(points, list) or len(points) < 6 or len(points) % 2 or not all(map(is_number, points)):
            continue
        xy = np.array(points, np.float64).reshape(-1, 2)
        limit = np.array(size[::-1])
        if (xy < -limit).any() or (xy > 2 * limit).any():
            continue
        around += np.abs(xy - np.roll(xy, 1, 0)).max(1).sum()
        found.append(points)
    return found if found and len(value) <= POLYGONS and around <= PERIMETER else None


def is_run_length(value: dict, size: Size) -> bool:
    """Whether a run-length code has runs of that picture, all of them and no more.

    With others, COCO's tools write beyond their memory or never end.
    """
    counts = value.get("counts")
    if value.get("size") != list(size) or not isinstance(counts, list | str) or not counts:
        return False
    if isinstance(counts, list):
        return all(type(n) is int and n >= 0 for n in counts) and sum(counts) == size[0] * size[1]
    found = runs(counts)
    return found is not None and int(found.sum()) == size[0] * size[1]


def runs(text: str) -> np.ndarray | None:
    """The runs of a code in COCO's compressed form; None where it is none.

    A run is characters of five bits each, the lowest first, the sixth bit set in all but the last; from the fourth run
    on it is the difference to the one before the last.
    """
    if not text.isascii():
        return None
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    if codes.min() < 0 or codes.max() > 63 or not len(ends) or ends[-1] != len(codes) - 1:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > LONGEST:
        return None
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)  # the highest bit is the sign
    values[1::2], values[2::2] = np.cumsum(values[1::2]), np.cumsum(values[2::2])
    return values if (values >= 0).all() else None


def is_number(value: Any) -> bool:
    """Whether a value is a number that a coordinate can be; no NaN, infinity or truth value is one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9
