"""Find the pictures in folders; what lies beside them is counted, with the first of it and why."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from aiqvit.tasks.pictures import SUFFIXES

from aiqvit.io.escape import line

Sample = tuple[Path, int]  # picture, index in the list of classes


class Ignored:
    """What is found in the folders and not used, by the reason."""

    def __init__(self, *roots: Path) -> None:
        """Nothing yet; names count from the one of these folders that they are in."""
        self.roots = list(roots)
        self.reasons: Counter[str] = Counter()
        self.first = ""  # the first one and why it is not used
        self.links: list[str] = []  # pictures that are links to nothing

    def add(self, path: str | Path, reason: str) -> None:
        """Count one."""
        self.first = self.first or f"{self.name(path)!r}, {reason}"
        self.reasons[reason] += 1

    def name(self, path: str | Path) -> str:
        """A file for people."""
        path = Path(path)
        root = next((root for root in self.roots if path.is_relative_to(root) and path != root), None)
        return line(str(path.relative_to(root) if root else path))

    def __str__(self) -> str:
        """`3 ignored (2 hidden, 1 not a picture: .txt); the first: 'val/a/.x', hidden`; empty for nothing."""
        if not self.reasons:
            return ""
        parts = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())
        return f"{self.reasons.total()} ignored ({parts}); the first: {self.first}"


def entries(folder: str | Path, ignored: Ignored) -> list[os.DirEntry]:
    """What is in a folder, by name, without what is hidden; nothing for one that cannot be opened, which is counted."""
    try:
        with os.scandir(folder) as listing:
            found = sorted(listing, key=lambda e: e.name)
    except OSError as error:
        ignored.add(folder, f"a folder that cannot be opened ({error.strerror})")
        return []
    for entry in found:
        if entry.name[0] == ".":
            ignored.add(entry.path, "hidden")
    return [entry for entry in found if entry.name[0] != "."]


def is_folder(entry: os.DirEntry) -> bool:
    """Whether it is a folder or a link to one; not for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_picture(entry: os.DirEntry, ignored: Ignored) -> bool:
    """Whether a file is a picture by its name and is there; counted when it is not."""
    if not entry.name.lower().endswith(SUFFIXES):
        ignored.add(entry.path, f"not a picture: {line(Path(entry.name).suffix.lower()) or 'no suffix'}")
        return False
    try:
        there = entry.is_file()
    except OSError:
        there = False
    if not there:
        ignored.add(entry.path, "a link to nothing" if entry.is_symlink() else "not a file")
        ignored.links.append(ignored.name(entry.path))
    return there


def pictures(folder: str | Path, ignored: Ignored, depth: int = 8, links: bool = False) -> list[Path]:
    """The pictures in a folder and, down to `depth`, in those below it, by name.

    Links to folders are followed where `links` says so, and that is in the folder itself: deeper they may go round.
    """
    found = []
    for entry in entries(folder, ignored):
        if is_folder(entry):
            if depth and (links or not entry.is_symlink()):
                found += pictures(entry.path, ignored, depth - 1)
            else:
                ignored.add(entry.path, "a link to a folder" if depth else "a folder below")
        elif is_picture(entry, ignored):
            found.append(Path(entry.path))
    return found


def by_class(folder: Path, ignored: Ignored) -> dict[str, list[Path]]:
    """Class folders, by name, also those without pictures; pictures beside them are counted as ignored."""
    found = {}
    for entry in entries(folder, ignored):
        if is_folder(entry):
            found[entry.name] = pictures(entry.path, ignored)
        elif is_picture(entry, ignored):
            ignored.add(entry.path, "beside the class folders")
    return found
