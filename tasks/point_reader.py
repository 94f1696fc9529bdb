"""The files of a point-cloud task: looked at when it opens, read and checked before the first run, oddities counted."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
from aiqvit.tasks import held_out as aside
from aiqvit.tasks.point_facts import Facts, refuse
from aiqvit.tasks.point_files import look, read_points, unit_sphere
from aiqvit.tasks.point_h5 import read_row
from aiqvit.tasks.point_lists import Shape
from torch import Tensor
from tqdm import tqdm

from aiqvit.interfaces import UserError


class PointReader:
    """Reads shapes: points have coordinates, perhaps normals, and `after` columns behind them."""

    after: ClassVar[int] = 0  # columns of a file behind coordinates and normals
    judged: int | None = None  # training shapes that are evaluated on in place of `val`
    extra: int = 0  # channels of the model's input behind coordinates and normals
    channels: int  # of the model's input: what the files have, or what the weights that were loaded take
    points: int  # of a shape that the model takes
    facts: Facts
    train: list[Shape]
    held_out: list[Shape]  # training data that picks the best checkpoint
    val: list[Shape]

    def _look(self, known: dict[Path, int] | None = None) -> None:
        """Look at the first lines of all files unless their numbers of columns are `known`; set `channels`.

        Raises `UserError` with the first fault and how many files have one.
        """
        paths = list(dict.fromkeys(shape.path for shape in (*self.train, *self.held_out, *self.val)))
        faults = []

        def columns(path: Path) -> int:
            try:
                return look(path, self.columns).columns - self.after
            except UserError as error:
                faults.append(str(error))
                return 0

        with ThreadPoolExecutor(8) as pool:
            found = known or dict(zip(paths, pool.map(columns, paths), strict=True))
        refuse(sorted(faults), len(paths))
        self.flat = [path for path in paths if found[path] == 3]  # without normals
        self.channels = (3 if self.flat else 6) + self.extra

    @property
    def columns(self) -> tuple[int, int]:
        """Of a text file, without and with normals."""
        return 3 + self.after, 6 + self.after

    def rows(self, shape: Shape) -> np.ndarray:
        """Points of a shape, (N, columns), in the unit sphere; what is odd about them is counted."""
        if shape.row is None:
            found = read_points(shape.path, self.columns, self.points)
        else:
            found = read_row(shape.path, shape.row, self.points)
        rows = unit_sphere(found.rows)
        name = shape.path.name + ("" if shape.row is None else f" {shape.row}")
        self.facts.add(shape, name, rows[:, :3], found.total)
        return rows

    def check(self, shapes: Sequence[Shape]) -> None:
        """Read what was not read yet. Raises `UserError` with the first fault and how many shapes have one."""
        faults, fresh = [], [shape for shape in shapes if shape not in self.facts]
        for shape in tqdm(fresh, "reading shapes once", unit="shape", delay=2, leave=False, file=sys.stderr):
            try:
                self.read(shape)
            except UserError as error:
                faults.append(str(error))
        refuse(faults, len(shapes))

    def notes(self) -> list[str]:
        """See `Task`: shapes with too few points, repeated ones or none apart, among those that were read."""
        return [*self.facts.remarks(), *([aside.note(self.judged)] if self.judged else [])]

    @abstractmethod
    def read(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """Input points (N, channels) of a shape and its target: the class (), or the part of each point (N,)."""
