"""Shapes in HDF5 files, as in the distribution `modelnet40_ply_hdf5_2048`: `data`, `label` and perhaps `normal`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from aiqvit.tasks.apart import read_apart
from aiqvit.tasks.content import NOBODY, digest
from aiqvit.tasks.point_cache import Array, Sampled, kept_rows
from aiqvit.tasks.point_files import tamed
from aiqvit.tasks.texts import MOST as ENTRIES
from aiqvit.tasks.texts import is_file, located, read_list

from aiqvit.interfaces import UserError
from aiqvit.io.files import opened

NAMES, TRAIN, TEST = "shape_names.txt", "train_files.txt", "test_files.txt"
MOST, CHUNK = 100_000, 2**28  # shapes of a file and points of a shape; bytes that are unpacked at once
FILTERS = {1, 2, 3, 32000}  # gzip, shuffle, checksum, lzf: others are plug-ins that the library would look for
HOLDS = "data (shapes, points, 3) and label (shapes,)"

_proven: set[str] = set()  # contents of files that this process may read


class Listed(NamedTuple):
    """A shape of a file."""

    path: Path
    row: int
    label: int
    columns: int  # 3, or 6 with normals


def listed(root: Path, name: str, classes: int) -> list[Listed]:
    """All shapes of the files that a list names. Raises `UserError` for a list or a file that is not as expected."""
    shapes: list[Listed] = []
    for path in _files(root, name):
        with _opened(path) as file:
            labels, columns = _labels(path, file)
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if len(wrong):
            raise UserError(f"{str(path)!r}: shape {wrong[0]} has the label {labels[wrong[0]]}, but {NAMES} has "
                            f"{classes} classes")
        if len(shapes) + len(labels) > ENTRIES:
            raise UserError(f"{str(root / name)!r}: its files hold more than {ENTRIES} shapes")
        shapes += [Listed(path, row, int(label), columns) for row, label in enumerate(labels)]
    if not shapes:
        raise UserError(f"{str(root / name)!r}: its files hold no shapes")
    return shapes


def _files(root: Path, name: str) -> list[Path]:
    """The files that a list names. Raises `UserError` for one that is not there or is named twice."""
    files: dict[Path, Path] = {}
    for entry in read_list(root / name, "an HDF5 file such as ply_data_test0.h5 a line"):
        path = located(entry, root)
        if not is_file(path):
            raise UserError(f"{str(root / name)!r} names {entry!r}, but there is no file {str(root / path.name)!r}")
        if (real := path.resolve()) in files:
            raise UserError(f"{str(root / name)!r} names {entry!r} twice: its shapes would count twice")
        files[real] = path
    return list(files.values())


def read_row(path: Path, row: int, count: int) -> Sampled:
    """`count` evenly spaced points of a shape. Raises `UserError` that names the file and the shape."""
    return kept_rows(path, [row, "h5"], lambda: _rows(path, row), count, (3, 6))


def _rows(path: Path, row: int) -> Array:
    with _opened(path) as file:
        parts = [_numbers(path, file, key) for key in ("data", "normal")]
        rows = np.concatenate([np.asarray(part[row], np.float64) for part in parts if part is not None], 1)
    if not np.isfinite(rows := tamed(rows)).all():
        raise UserError(f"{str(path)!r}, shape {row}: a number is not finite")
    return rows


def _labels(path: Path, file: Any) -> tuple[Array, int]:
    parts = {key: _numbers(path, file, key) for key in ("data", "label", "normal")}
    shapes = {key: part.shape for key, part in parts.items() if part is not None}
    data, labels = shapes.get("data", ()), shapes.get("label", ())
    good = len(data) == 3 and data[1] > 0 and data[2] == 3 and labels[:1] == data[:1]
    if not good or int(np.prod(labels)) != data[0] or shapes.get("normal", data) != data:
        found = ", ".join(f"{key} {shape}" for key, shape in shapes.items()) or "neither"
        raise UserError(f"{str(path)!r} holds {found}: expected {HOLDS}")
    if max(data[:2]) > MOST:
        raise UserError(f"{str(path)!r} holds data {data}: expected at most {MOST} shapes and points each")
    return np.asarray(parts["label"]).reshape(-1).astype(np.int64), 6 if "normal" in shapes else 3


def _numbers(path: Path, file: Any, key: str) -> Any:
    """An array of a file, or None. Raises `UserError` for what is in another file, or takes more memory than disk."""
    import h5py

    link = file.get(key, getlink=True)
    if link is None:
        return None
    found = file.get(key) if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external or found.dtype.kind not in "fiu":
        raise UserError(f"{str(path)!r}: {key!r} is not an array of numbers in this file: expected {HOLDS}")
    filters = found.id.get_create_plist()
    used = {filters.get_filter(i)[0] for i in range(filters.get_nfilters())}
    if not used <= FILTERS or math.prod(found.chunks or ()) * found.dtype.itemsize > CHUNK:
        raise UserError(f"{str(path)!r}: {key!r} is packed in another way than gzip, or in pieces above "
                        f"{CHUNK >> 20} MiB")
    return found


def _prove(path: Path) -> None:
    """Read a file in a process of its own first, once: a damaged one can crash the library.

    Raises `ValueError` where it does.
    """
    if (content := digest(path)) not in _proven:
        read_apart(__name__, path)
        if content != NOBODY:
            _proven.add(content)


def main(path: str) -> None:
    """Read all that can be read of a file; what else is wrong with it is said by who asked."""
    try:
        with _file(Path(path)) as file:
            labels, columns = _labels(Path(path), file)
            for key in ("data", "normal")[: columns // 3]:
                for row in range(len(labels)):
                    file[key][row]
    except UserError as error:
        if isinstance(error.__cause__, MemoryError):
            raise


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        if path.is_file():
            _prove(path)
    except ValueError as error:
        raise UserError(f"{str(path)!r} cannot be read as HDF5 ({error}): expected {HOLDS}") from error
    with _file(path) as file:
        yield file


@contextlib.contextmanager
def _file(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{str(path)!r} is an HDF5 file, which needs h5py: pip install 'aiqvit[points]'") from error
    try:
        opened(path).close()  # a pipe would never end
        with h5py.File(path, "r") as file:
            yield file
    except UserError:
        raise
    except Exception as error:  # of the library, whatever a damaged file makes it raise
        raise UserError(f"{str(path)!r} cannot be read as HDF5: expected {HOLDS}") from error
