"""ModelNet40 classification with Point Transformer, in the text layout `modelnet40_normal_resampled`.

`modelnet40_shape_names.txt` lists the classes, `modelnet40_train.txt` and `modelnet40_test.txt` the shapes, and
`<class>/<shape>.txt` holds one point a line: x,y,z and its normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from aiqvit.tasks.mini import solids
from aiqvit.tasks.models.point_transformer import PointTransformer
from aiqvit.tasks.point_files import check_files, read_list, read_points, unit_sphere
from aiqvit.tasks.points import PointTask, Shape, class_means
from torch import Tensor

from aiqvit.interfaces import UserError

NAMES, TRAIN, TEST = "modelnet40_shape_names.txt", "modelnet40_train.txt", "modelnet40_test.txt"


class ModelNet40(PointTask):
    """Mean class accuracy (over the classes that are evaluated) and overall accuracy.

    `data` may also be another list in the folder, such as `DIR/subset.txt`, to evaluate on instead of the test list.
    """

    name = "modelnet40"
    metrics = ("macc", "oa")
    folder = "data/modelnet40_normal_resampled"
    kind = PointTransformer
    channels = 6

    def __init__(self, data: str | None = None, strict: bool = False) -> None:
        """See `Task`. Files are read when needed; a broken one is an error whatever `strict` says."""
        root, test = self._open(data, solids, self.name), TEST
        if root.is_file():
            root, test = root.parent, root.name
            self.label += "" if test == TEST else f"-{Path(test).stem}"
        names = read_list(root / NAMES, "the names of the classes")
        self.classes = len(names)
        labels = {name: index for index, name in enumerate(names)}
        self.train, self.val = _shapes(root, TRAIN, labels), _shapes(root, test, labels)
        self.held_out, self.names = self.train[::10], tuple(names)

    def read(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """See `PointTask`."""
        points = unit_sphere(read_points(shape.path, 6, self.points, ","))
        return torch.from_numpy(points), torch.tensor(shape.label)

    def judge(self, outputs: Tensor, shapes: Sequence[Shape], targets: Tensor) -> list[float]:
        """1 for a shape whose class has the largest logit, of equal ones the first."""
        return (outputs.argmax(1) == targets).double().tolist()

    def summary(self, shapes: Sequence[Shape], numbers: Sequence[float]) -> dict[str, float]:
        """See `PointTask`."""
        means = class_means([shape.label for shape in shapes], numbers)
        return {"macc": 100 * sum(means) / len(means), "oa": 100 * sum(numbers) / len(numbers)}


def _shapes(root: Path, name: str, labels: dict[str, int]) -> list[Shape]:
    listed = read_list(root / name, "a shape such as airplane_0001 a line")
    shapes = []
    for shape in listed:
        family = shape.rpartition("_")[0]
        if family not in labels:
            raise UserError(f"{str(root / name)!r} names {shape!r}, but {family!r} is not a class of {NAMES}")
        shapes.append(Shape(root / family / f"{shape}.txt", labels[family]))
    check_files(listed, [shape.path for shape in shapes], repr(str(root / name)))
    return shapes
