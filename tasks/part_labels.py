"""Categories of a part segmentation set and the labels of their parts: the official ones, or those of a set of own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from aiqvit.tasks.point_cache import kept_rows
from aiqvit.tasks.point_files import parse
from aiqvit.tasks.texts import read_json, read_text

from aiqvit.interfaces import UserError

CATEGORIES, PARTS_FILE = "synsetoffset2category.txt", "parts.json"
WHAT = "a category and its folder a line, such as Airplane 02691156"
OFFICIAL = {  # category to its number of parts; labels count on from category to category
    "Airplane": 4, "Bag": 2, "Cap": 2, "Car": 4, "Chair": 4, "Earphone": 3, "Guitar": 3, "Knife": 2, "Lamp": 4,
    "Laptop": 2, "Motorbike": 6, "Mug": 2, "Pistol": 3, "Rocket": 3, "Skateboard": 3, "Table": 3,
}
MOST = 4096  # labels count from 0: a larger one is no label


class Categories(NamedTuple):
    """All categories in the order of the model's one-hot input."""

    names: list[str]
    parts: dict[str, Sequence[int]] | None  # the labels of each; None: to be found in the files
    folders: dict[str, int]  # name of a folder to index of its category


def categories(root: Path, official: dict[str, int]) -> Categories:
    """The categories of a folder: `official` ones where all names are among these, otherwise its own.

    The parts of own categories are in `parts.json`. Raises `UserError` for what is missing or wrong.
    """
    named: dict[str, str] = {}
    for number, line in enumerate(read_text(root / CATEGORIES, WHAT).splitlines(), 1):
        if not (words := line.split()):
            continue
        name, folder = " ".join(words[:-1]), words[-1]
        if not name or name in named.values() or folder in named:
            raise UserError(f"{str(root / CATEGORIES)!r}, line {number}: expected {WHAT}, each once")
        named[folder] = name
    if not named:
        raise UserError(f"{str(root / CATEGORIES)!r} is empty: expected {WHAT}")
    own = (root / PARTS_FILE).is_file() or not set(named.values()) <= official.keys()
    names = list(named.values()) if own else list(official)
    parts = _listed(root / PARTS_FILE, names) if own else counted_on(official)
    return Categories(names, parts, {folder: names.index(name) for folder, name in named.items()})


def counted_on(counts: dict[str, int]) -> dict[str, Sequence[int]]:
    """Labels that count on from category to category."""
    parts, first = {}, 0
    for name, count in counts.items():
        parts[name] = range(first, first + count)
        first += count
    return parts


def _listed(path: Path, names: Sequence[str]) -> dict[str, Sequence[int]] | None:
    what = f'the parts of each category, such as {{"{names[0]}": 4}} or {{"{names[0]}": [0, 1, 2, 3]}}'
    if not path.is_file():
        return None
    found = read_json(path, what)
    wrong = next((n for n in names if not isinstance(found, dict) or not _is_parts(found.get(n))), None)
    if wrong is not None:
        raise UserError(f"{str(path)!r} says nothing of {wrong!r}: expected {what}")
    if all(isinstance(found[name], int) for name in names):
        return counted_on({name: found[name] for name in names})
    mixed = next((name for name in names if isinstance(found[name], int)), None)
    if mixed is not None:
        raise UserError(f"{str(path)!r} has a number for {mixed!r} but labels for others: expected {what}")
    return {name: sorted(set(found[name])) for name in names}


def _is_parts(value: Any) -> bool:
    values = value if isinstance(value, list) else [value - 1] if type(value) is int else []
    return bool(values) and all(type(v) is int and 0 <= v < MOST for v in values)


def found_labels(paths: Iterable[tuple[Path, int]], names: Sequence[str], columns: Sequence[int]
                 ) -> dict[str, Sequence[int]]:
    """The labels that the files of each category have; `paths` are (file, index of its category).

    Raises `UserError` for a file that cannot be read, for labels that are none, and for a category without a file.
    """
    found: dict[int, set[int]] = {}
    for path, category in paths:
        found.setdefault(category, set()).update(_labels(path, columns))
    empty = next((name for i, name in enumerate(names) if i not in found), None)
    if empty is not None:
        raise UserError(f"no shape of the category {empty!r} is listed, so that its parts are not known: name them in "
                        f"{PARTS_FILE}, or take it out of {CATEGORIES}")
    return {name: sorted(found[i]) for i, name in enumerate(names)}


def _labels(path: Path, columns: Sequence[int]) -> list[int]:
    def read() -> np.ndarray:
        return np.unique(parse(path, columns)[:, -1])[:, None]

    labels = np.unique(kept_rows(path, [*columns, "labels"], read, MOST + 1, (1,)).rows)
    if len(labels) > MOST or (labels != labels.round()).any() or labels.min() < 0 or labels.max() >= MOST:
        raise UserError(f"{str(path)!r}: its last column is not the part of a point, a whole number from 0 to "
                        f"{MOST - 1}")
    return [int(label) for label in labels]
