"""The classes of validation pictures that lie in one folder: ImageNet's solution table or its devkit's list."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from aiqvit.tasks.classes import WNID
from aiqvit.tasks.matlab import read_synsets
from aiqvit.tasks.texts import read_lines

from aiqvit.interfaces import UserError

TABLE, COLUMNS = "LOC_val_solution.csv", ("ImageId", "PredictionString")
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
MAPS = ("map_clsloc.txt", "meta.mat", "synsets.txt", "synset_order.txt")  # what the devkit's numbers stand for
WHAT = "the classes of validation pictures, as text"
MOST, LONG = 2_000_000, 10_000  # lines of a table or list, and characters of a line
BELOW = ("", "data", "devkit", "devkit/data", "ILSVRC2012_devkit_t12/data")


def answers(places: Sequence[Path]) -> tuple[dict[str, str], Path] | None:
    """Class name by picture, from the first table or list in these folders, and that file; None when there is none.

    A picture is its name without the suffix, or, as in `ILSVRC2012_val_00000007`, the number behind it ("7").
    Raises `UserError` for a file that cannot be understood.
    """
    folders = [place / below for place in places for below in BELOW]
    if table := _first(folders, (TABLE,)):
        return _table(table), table
    if truth := _first(folders, (TRUTH,)):
        return _truth(truth, folders), truth
    return None


def answer(found: dict[str, str], picture: Path) -> str | None:
    """The class of a picture, or None."""
    number = re.search(r"(\d+)$", picture.stem)
    return found.get(picture.stem) or found.get(picture.name) or (found.get(str(int(number[1]))) if number else None)


def _first(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names for folder in folders if (folder / name).is_file()), None)


def _table(path: Path) -> dict[str, str]:
    rows = _rows(path)
    header = [cell.strip() for cell in next(rows, (0, []))[1]]
    if not set(COLUMNS) <= set(header):
        raise UserError(f"{str(path)!r} begins with {','.join(header)[:80]!r}: expected a first line with the columns "
                        f"{' and '.join(COLUMNS)}")
    picture, label = map(header.index, COLUMNS)
    found: dict[str, str] = {}
    for number, row in rows:
        words = row[label].split() if len(row) > label else []
        if not words or not row[picture].strip():
            raise UserError(f"{str(path)!r}, line {number}: expected a picture, a comma and its class, such as "
                            "ILSVRC2012_val_00000001,n01751748 111 108 441 193")
        if found.setdefault(row[picture].strip(), sys.intern(words[0])) != words[0]:
            raise UserError(f"{str(path)!r}, line {number}: {row[picture]} is there twice, with different classes")
    return found


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not blank, and the number of the line. Raises `UserError`."""
    for number, text in enumerate(_lines(path), 1):
        try:
            row = next(csv.reader([text]), [])
        except csv.Error as error:
            raise UserError(f"{str(path)!r} is no table: {error}") from error
        if any(map(str.strip, row)):
            yield number, row


def _lines(path: Path) -> list[str]:
    """The lines. Raises `UserError` for too many or too long ones."""
    lines = read_lines(path, WHAT, MOST)
    if long := next((i for i, text in enumerate(lines, 1) if len(text) > LONG), 0):
        raise UserError(f"{str(path)!r}, line {long} is longer than {LONG} characters: expected {WHAT}")
    return lines


def _truth(path: Path, folders: Sequence[Path]) -> dict[str, str]:
    """The devkit's list: line i is the class of picture i, as a number that a map names, or as a wnid."""
    lines = [line for line in _lines(path) if line]
    if all(map(WNID.fullmatch, lines)):
        return {str(i): wnid for i, wnid in enumerate(lines, 1)}
    if wrong := next((i for i, line in enumerate(lines, 1) if not _is_number(line)), 0):
        raise UserError(f"{str(path)!r}, line {wrong}: expected the number of a class")
    source = _first([path.parent, *folders], MAPS)
    if source is None:
        raise UserError(f"{str(path)!r} has the devkit's numbers of classes, and nothing here says what they stand "
                        f"for: put the devkit's meta.mat or map_clsloc.txt beside it, or {TABLE} in its place")
    wnids = _map(source)
    if wrong := next((i for i, line in enumerate(lines, 1) if int(line) not in wnids), 0):
        raise UserError(f"{str(path)!r}, line {wrong}: class {lines[wrong - 1]} is not in {str(source)!r}")
    return {str(i): wnids[int(line)] for i, line in enumerate(lines, 1)}


def _map(path: Path) -> dict[int, str]:
    """The devkit's number -> wnid, from `meta.mat`, lines `wnid number name`, or wnids in the devkit's order."""
    if path.suffix == ".mat":
        return read_synsets(path)
    rows = [line.split() for line in read_lines(path, WHAT) if line]
    if rows and all(len(row) > 1 and WNID.fullmatch(row[0]) and _is_number(row[1]) for row in rows):
        return {int(row[1]): row[0] for row in rows}
    wnids = [row[0] for row in rows]
    if not wnids or not all(map(WNID.fullmatch, wnids)):
        raise UserError(f"{str(path)!r}: expected lines such as 'n02119789 1 kit_fox'")
    if len(wnids) == 1000 and wnids == sorted(wnids):
        raise UserError(f"{str(path)!r} lists the wnids by name, which is not the order of the devkit's numbers: put "
                        "the devkit's meta.mat or map_clsloc.txt in its place")
    return dict(enumerate(wnids, 1))


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10
