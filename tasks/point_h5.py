"""Shapes in HDF5 files, as in the distribution `modelnet40_ply_hdf5_2048`: `data`, `label` and perhaps `normal`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from aiqvit.tasks.content import digest
from aiqvit.tasks.point_files import Array, Sampled, kept_rows, tamed
from aiqvit.tasks.texts import located, read_list

from aiqvit.interfaces import UserError

NAMES, TRAIN, TEST = "shape_names.txt", "train_files.txt", "test_files.txt"
HOLDS = "data (shapes, points, 3) and label (shapes,)"


class Listed(NamedTuple):
    """A shape of a file."""

    path: Path
    row: int
    label: int
    columns: int  # 3, or 6 with normals


def listed(root: Path, name: str, classes: int) -> list[Listed]:
    """All shapes of the files that a list names. Raises `UserError` for a list or a file that is not as expected."""
    shapes = []
    for entry in read_list(root / name, "an HDF5 file such as ply_data_test0.h5 a line"):
        path = located(entry, root)
        if not path.is_file():
            raise UserError(f"{str(root / name)!r} names {entry!r}, but there is no file {str(root / path.name)!r}")
        labels, columns = _labels(path)
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if len(wrong):
            raise UserError(f"{str(path)!r}: shape {wrong[0]} has the label {labels[wrong[0]]}, but {NAMES} has "
                            f"{classes} classes")
        shapes += [Listed(path, row, int(label), columns) for row, label in enumerate(labels)]
    if not shapes:
        raise UserError(f"{str(root / name)!r}: its files hold no shapes")
    return shapes


def read_row(path: Path, row: int, count: int) -> Sampled:
    """`count` evenly spaced points of a shape. Raises `UserError` that names the file and the shape."""
    return kept_rows([digest(path), row, "h5"], lambda: _rows(path, row), count)


def _rows(path: Path, row: int) -> Array:
    with _opened(path) as file:
        rows = np.concatenate([np.asarray(file[key][row], np.float64) for key in ("data", "normal") if key in file], 1)
    if not np.isfinite(rows := tamed(rows)).all():
        raise UserError(f"{str(path)!r}, shape {row}: a number is not finite")
    return rows


def _labels(path: Path) -> tuple[Array, int]:
    with _opened(path) as file:
        shapes = {key: file[key].shape for key in ("data", "label", "normal") if hasattr(file.get(key), "shape")}
        data, labels = shapes.get("data", ()), shapes.get("label", ())
        good = len(data) == 3 and data[1] > 0 and data[2] == 3 and labels[:1] == data[:1]
        if not good or int(np.prod(labels)) != data[0] or shapes.get("normal", data) != data:
            found = ", ".join(f"{key} {shape}" for key, shape in shapes.items()) or "neither"
            raise UserError(f"{str(path)!r} holds {found}: expected {HOLDS}")
        return np.asarray(file["label"]).reshape(-1).astype(np.int64), 6 if "normal" in shapes else 3


def _opened(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{str(path)!r} is an HDF5 file, which needs h5py: pip install 'aiqvit[points]'") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read as HDF5: expected {HOLDS}") from error
