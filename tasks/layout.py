"""Where classification data is: folders of class folders, a flat folder with a table, pictures to calibrate on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiqvit.tasks import flat
from aiqvit.tasks.classes import Classes, of_folders
from aiqvit.tasks.folders import Ignored, Sample, by_class, entries, is_folder, pictures
from aiqvit.tasks.pictures import SUFFIXES
from aiqvit.tasks.texts import expanded

from aiqvit.interfaces import UserError
from aiqvit.io.escape import line

VALS = ("val", "validation", "valid", "test")  # the first of these is evaluated on
DOWNLOAD = Path("ILSVRC") / "Data" / "CLS-LOC"  # where the data lies in the usual download, the table three above


@dataclass
class Layout:
    """What is found."""

    root: Path
    train: list[Path] = field(default_factory=list)  # to calibrate on
    train_root: Path = Path()  # what their names count from
    no_train: str = ""  # why there are none, and what to do
    val: list[Sample] = field(default_factory=list)
    no_val: str = ""
    classes: Classes = Classes((), "", (), "")
    ignored: Ignored = field(default_factory=Ignored)  # also names files for people

    def labelled_train(self) -> list[Sample]:
        """The pictures to calibrate on with their classes, -1 for one that is in no folder of a known class."""
        index = {name: i for i, name in enumerate(self.classes.names)}
        return [(path, index.get(path.relative_to(self.train_root).parts[0], -1)) for path in self.train]


def find(data: str, calib: str | None = None, wnids: Sequence[str] | None = None) -> Layout:
    """What is in a data folder; pictures in `calib`, in class folders or not, take the place of its `train`.

    `wnids` are the classes in order, when they are known. Raises `UserError` when the folder is not there, or what it
    has cannot be understood; what is merely missing is said in `no_train` and `no_val`.
    """
    top = expanded(data)
    root = top / DOWNLOAD if (top / DOWNLOAD).is_dir() else top
    found = Layout(root, ignored=Ignored(root))
    wanted = f"looked for {str(root / 'train')!r} and {str(root / 'val')!r} with a folder per class (n01440764, ...)"
    if not root.is_dir():
        raise UserError(f"data folder {str(root)!r} {'is no folder' if root.exists() else 'does not exist'}: {wanted}")
    names: set[str] = set()
    if calib is not None:
        _calibration(expanded(calib), found)
    elif (root / "train").is_dir():
        names = _train(root / "train", found)
    else:
        found.no_train = f"data folder {str(root)!r} has no folder 'train'"
    found.no_train += "" if found.train else ": give --calib-data DIR, a folder of pictures"
    val = next((root / name for name in VALS if (root / name).is_dir()), None)
    if val is None and not (root / "train").is_dir() and _holds_classes(root):
        val = root
    if val is not None:
        _evaluated(val, top, names, found, wnids)
    elif found.train and names:
        found.no_val = f"data folder {str(root)!r} has no folder 'val': {wanted}"
        found.classes = of_folders(names, root, repr(str(root / "train")), wnids)
    else:
        raise UserError(f"data folder {str(root)!r} has no folder {'val' if names else 'train'!r}: {wanted}")
    return found


def _calibration(folder: Path, found: Layout) -> None:
    if not folder.is_dir():
        there = os.path.lexists(folder)
        raise UserError(f"--calib-data {str(folder)!r}: {'it is no folder' if there else 'there is no such folder'}")
    found.ignored.roots.append(folder.parent)
    found.train, found.train_root = pictures(folder, found.ignored, 1, links=True), folder
    if not found.train:
        raise UserError(f"--calib-data {str(folder)!r}: no pictures in it or in the folders in it" + _but(found))


def _train(folder: Path, found: Layout) -> set[str]:
    """List `train`, in class folders or, as calibration needs no classes, without. Returns their names."""
    found.train, found.train_root = pictures(folder, found.ignored, links=True), folder
    if not found.train:
        found.no_train = f"no images in {str(folder)!r}"
    return {entry.name for entry in entries(folder, Ignored()) if is_folder(entry)}


def _holds_classes(root: Path) -> bool:
    """Whether a folder has class folders with pictures, or pictures with a table, and so is one to evaluate on."""
    spare = Ignored()
    folders = [entry.path for entry in entries(root, spare) if is_folder(entry)]
    if any(pictures(folder, spare, 0) for folder in folders):
        return True
    return bool(pictures(root, spare, 0)) and flat.answers([root]) is not None


def _evaluated(val: Path, top: Path, names: set[str], found: Layout, wnids: Sequence[str] | None) -> None:
    loose = pictures(val, Ignored(), 0)
    table = flat.answers(list(dict.fromkeys((val, found.root, top, *_above(found.root))))) if loose else None
    if table is not None:
        pairs, own, where = _by_table(val, found, *table), set(table[0].values()), repr(str(table[1]))
    else:
        folders = by_class(val, found.ignored)
        if not folders:
            raise UserError(f"data folder {str(val)!r} has no class folders" + (
                f", but {len(loose)} pictures: put {flat.TABLE}, or {flat.TRUTH} with its map, into "
                f"{str(found.root)!r}, or move the pictures into a folder per class" if loose else
                f": expected a folder per class (n01440764, ...) with the pictures in it{_but(found)}"))
        pairs = [(path, name) for name, paths in folders.items() for path in paths]
        own, where = set(folders), repr(str(val))
    if not pairs:
        wanted = "" if table else "<class name>/"
        raise UserError(f"no images in {str(val)!r}: looked for {wanted}*{{{','.join(SUFFIXES)}}}{_but(found)}")
    names = names if own & names else own  # a train without any class of the other is no list of classes
    if odd := sorted(own - names):
        where += f" (of which {line(odd[0])!r} is not in 'train')"
    found.classes = of_folders(own | names, found.root, where, wnids)
    index = {name: i for i, name in enumerate(found.classes.names)}
    found.val = [(path, index[name]) for path, name in pairs]


def _by_table(val: Path, found: Layout, rows: dict[str, str], file: Path) -> list[tuple[Path, str]]:
    pairs = []
    for path in pictures(val, found.ignored, 0):
        name = flat.answer(rows, path)
        if name is None:
            found.ignored.add(path, f"not in {file.name}")
        else:
            pairs.append((path, name))
    return pairs


def _above(root: Path) -> list[Path]:
    """In the usual download the table lies three folders above."""
    return [root.parents[2]] if root.parts[-3:] == DOWNLOAD.parts else []


def _but(found: Layout) -> str:
    return f"; {found.ignored}" if found.ignored.reasons else ""
