"""Which files ModelNet has: text files in folders of classes, or HDF5 files, by the lists beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aiqvit.tasks import point_h5
from aiqvit.tasks.classes import MOST
from aiqvit.tasks.texts import first_twice, is_file, located, read_list

from aiqvit.interfaces import UserError

USUAL = "modelnet40"
SUFFIXES = (".txt", ".csv", ".xyz", ".pts")
WHAT = "a shape such as airplane_0001 a line"


class Shape(NamedTuple):
    """One shape and its class or category."""

    path: Path
    label: int
    row: int | None = None  # in an HDF5 file


class Lists(NamedTuple):
    """What a folder has."""

    suffix: str  # of the task's label
    names: tuple[str, ...]
    train: list[Shape]
    test: list[Shape]
    columns: dict[Path, int] | None  # of the HDF5 files; None: text files, which have to be looked at


def modelnet(root: Path, test: str | None) -> Lists:
    """The lists of a folder; `test` names the one to evaluate on. Raises `UserError` for what is missing or wrong.

    `PREFIX_shape_names.txt`, `PREFIX_train.txt` and `PREFIX_test.txt` belong together, `modelnet40` first; the prefix
    of `test` wins.
    """
    if not list(root.glob(f"*_{point_h5.NAMES}")) and (root / point_h5.NAMES).is_file():
        return _h5(root, test)
    prefix = _prefix(root, test)
    names = _classes(root / f"{prefix}_shape_names.txt")
    usual = f"{prefix}_test.txt"
    parts = ["" if prefix == USUAL else prefix, "" if test in (None, usual) else Path(test or "").stem]
    train, held = (_shapes(root, name, names) for name in (f"{prefix}_train.txt", test or usual))
    return Lists("".join(f"-{part}" for part in parts if part), names, train, held, None)


def _h5(root: Path, test: str | None) -> Lists:
    names = _classes(root / point_h5.NAMES)
    test = test or point_h5.TEST
    rows = [point_h5.listed(root, name, len(names)) for name in (point_h5.TRAIN, test)]
    train, held = ([Shape(entry.path, entry.label, entry.row) for entry in part] for part in rows)
    suffix = "-h5" + ("" if test == point_h5.TEST else f"-{Path(test).stem}")
    return Lists(suffix, names, train, held, {entry.path: entry.columns for part in rows for entry in part})


def _prefix(root: Path, test: str | None) -> str:
    found = sorted(path.name.removesuffix("_shape_names.txt") for path in root.glob("*_shape_names.txt"))
    if test is not None:
        own = [prefix for prefix in found if test.startswith(f"{prefix}_")]
        found = own[-1:] or found
    if USUAL in found or not found:
        return USUAL
    if len(found) > 1:
        raise UserError(f"{str(root)!r} has lists of {', '.join(found)}: name the one to test on, for example --data "
                        f"{str(root / found[0])}_test.txt")
    return found[0]


def _classes(path: Path) -> tuple[str, ...]:
    names = tuple(read_list(path, "the names of the classes", MOST))
    if (again := first_twice(names)) is not None:
        raise UserError(f"{str(path)!r} names the class {again!r} twice")
    return names


def _shapes(root: Path, name: str, classes: Sequence[str]) -> list[Shape]:
    labels = {name: index for index, name in enumerate(classes)}
    shapes: dict[Path, Shape] = {}
    for entry in read_list(root / name, WHAT):
        path = Path(entry.replace("\\", "/"))
        stem = path.stem if path.suffix in SUFFIXES else path.name
        family = stem.rpartition("_")[0]
        if family not in labels and path.parent.name in labels:
            family = path.parent.name
        if family not in labels:
            raise UserError(f"{str(root / name)!r} names {entry!r}, but {family!r} is not a class in the class list")
        file = path.name if path.suffix in SUFFIXES else f"{path.name}.txt"
        found = located(str(path.with_name(file)), root / family, root)
        if not is_file(found):
            missing = str(root / family / file)
            raise UserError(f"{str(root / name)!r} names {entry!r}, but there is no file {missing!r}")
        add_once(shapes, Shape(found, labels[family]), root / name, entry)
    return list(shapes.values())


def add_once(shapes: dict[Path, Shape], shape: Shape, listing: Path, entry: str) -> None:
    """Add a shape that an entry of a list names. Raises `UserError` for one that is there: it would count twice."""
    if shapes.setdefault(shape.path, shape) is not shape:
        raise UserError(f"{str(listing)!r} names {entry!r} twice: it would count twice")
