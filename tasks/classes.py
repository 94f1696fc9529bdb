"""Which output of a classifier stands for which class of the data."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiqvit.tasks.texts import LONGEST, first_twice, read_lines
from timm.data import ImageNetInfo, infer_imagenet_subset

from aiqvit.interfaces import UserError
from aiqvit.io.escape import line

FILE = "classes.txt"
MOST = 100_000  # classes
WNID = re.compile(r"n\d{8}")
LISTED, WNIDS, INDICES, NAMES = "listed", "wnid", "index", "name"


@dataclass(frozen=True)
class Classes:
    """The classes that pictures are labelled with; a label is the position in `names`."""

    names: tuple[str, ...]
    kind: str  # one of LISTED, WNIDS, INDICES, NAMES
    found: tuple[str, ...]  # names that folders or a table really have, sorted
    where: str  # the folder, the table or the list that they are from

    def outputs(self, width: int, model: str) -> list[int]:
        """For each name its output in a head of `width` classes, -1 for one that cannot occur.

        Raises `UserError` when classes and head do not agree.
        """
        order = self._order(width)
        if order is None:
            raise UserError(f"model {model!r} has {width} classes, {self._have(width)}: {self._advice(width)}")
        position = {name: i for i, name in enumerate(order)}
        if self.kind == INDICES and order is not self.found:
            position = {name: int(name) for name in self.names}
        return [position.get(name, -1) for name in self.names]

    def _order(self, width: int) -> Sequence[str] | None:
        """Names in the order of the head's outputs; None when they do not fit."""
        if self.kind == LISTED:
            return self.names if len(self.names) == width else None
        if self.kind == INDICES and max(map(int, self.found)) < width:
            return self.names  # by number, see `outputs`
        if self.kind == WNIDS and (wnids := _wnids(width)) and set(self.found) <= set(wnids):
            return wnids
        return self.found if len(self.found) == width else None

    def sentence(self, width: int, model: str) -> str:
        """How the outputs of a head are ordered; empty for ImageNet's own 1,000 classes."""
        order = self._order(width) or ()
        if self.kind == WNIDS and order is not self.found:
            return "" if width == 1000 else f"{model}: {width} classes in timm's order of wnids"
        if self.kind == INDICES and order is not self.found:
            return f"{model}: {width} classes, the number that names a folder is the output"
        how = f"as listed in {self.where}" if self.kind == LISTED else f"as the sorted names in {self.where}"
        first = ", ".join(map(line, order[:3])) + (", ..." if width > 3 else "")
        other = self.kind != LISTED and list(order) != sorted(order, key=_natural)
        return f"{model}: {width} classes {how}: {first}" + (
            f" (as text, so not by number: another order goes into {FILE})" if other else "")

    def _have(self, width: int) -> str:
        if self.kind == LISTED:
            return f"{self.where} lists {len(self.names)}"
        wnids = _wnids(width)
        strange = [name for name in self.found if name not in wnids]
        if wnids and len(strange) < len(self.found):
            return f"{self.where} has {line(strange[0])!r}, which is no wnid of these"
        first = ", ".join(map(line, self.found[:3])) + (", ..." if len(self.found) > 3 else "")
        return f"{self.where} has {len(self.found)} ({first})"

    def _advice(self, width: int) -> str:
        if self.kind == LISTED:
            return f"list the {width} names in the order of the outputs, or give --weights of a model for these classes"
        return (f"give --weights of a model for these classes, or a {FILE} in the data folder with the {width} names, "
                "a line each in the order of the outputs")


def of_folders(found: Collection[str], root: Path, where: str, wnids: Sequence[str] | None = None) -> Classes:
    """The classes of folders with these names; a `classes.txt` in `root`, or `wnids`, lists them.

    Raises `UserError` for a name that the list does not have, and for a list that cannot be used.
    """
    names, listed = tuple(sorted(found)), root / FILE
    if wnids is None and listed.is_file():
        where, wnids = repr(str(listed)), read_list(listed)
    if wnids is not None:
        if strange := [name for name in names if name not in set(wnids)]:
            raise UserError(f"class {line(strange[0])!r} of {str(root)!r} is not one of the {len(wnids)} names in "
                            f"{where}")
        return Classes(tuple(wnids), LISTED, names, where)
    if names and all(map(WNID.fullmatch, names)):
        known = ImageNetInfo().label_names()
        return Classes(tuple(known) if set(names) <= set(known) else names, WNIDS, names, where)
    if names and all(name.isascii() and name.isdecimal() for name in names) and len(set(map(int, names))) == len(names):
        return Classes(tuple(sorted(names, key=int)), INDICES, names, where)
    return Classes(names, NAMES, names, where)


def read_list(path: Path) -> list[str]:
    """Names in a text file, one a line. Raises `UserError` for a repeated name, an empty line and an empty file."""
    lines = read_lines(path, "the name of a class in each line", MOST)
    while lines and not lines[-1]:
        lines.pop()
    if not lines or "" in lines:
        where = f"line {lines.index('') + 1} is empty" if lines else "it is empty"
        raise UserError(f"{str(path)!r}: {where}; expected the name of a class in each line, in the head's order")
    if long := next((i for i, text in enumerate(lines, 1) if len(text) > LONGEST), 0):
        raise UserError(f"{str(path)!r}, line {long}: expected the name of a class, of at most {LONGEST} characters")
    if (twice := first_twice(lines)) is not None:
        raise UserError(f"{str(path)!r} names the class {twice!r} twice")
    return lines


def _wnids(width: int) -> Sequence[str]:
    """ImageNet's wnids in the order of a head of so many outputs, as timm knows it; none for other sizes."""
    subset = infer_imagenet_subset({"num_classes": width})
    return ImageNetInfo(subset).label_names() if subset else ()


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]
