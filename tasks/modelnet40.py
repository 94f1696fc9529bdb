"""ModelNet classification with Point Transformer: 40 classes, 10 or others, from text or HDF5 files.

`modelnet40_shape_names.txt` lists the classes, `modelnet40_train.txt` and `modelnet40_test.txt` the shapes, and
`<class>/<shape>.txt` holds one point a line: x,y,z and perhaps its normal. All layouts: docs/tasks/points.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from aiqvit.tasks.mini import solids
from aiqvit.tasks.models.point_transformer import PointTransformer
from aiqvit.tasks.point_lists import Shape, modelnet
from aiqvit.tasks.points import PointTask, class_means
from torch import Tensor


class ModelNet40(PointTask):
    """Mean class accuracy (over the classes that are evaluated) and overall accuracy.

    `data` may also be another list in the folder, such as `DIR/subset.txt`, to evaluate on instead of the test list.
    """

    name = "modelnet40"
    metrics = ("macc", "oa")
    folder = "data/modelnet40_normal_resampled"
    kind = PointTransformer

    def __init__(self, data: str | None = None, strict: bool = False) -> None:
        """See `Task`. The first lines of all files are looked at; a broken one is an error whatever `strict` says."""
        root = self._open(data, solids, self.name)
        root, test = (root.parent, root.name) if root.is_file() else (root, None)
        lists = modelnet(root, test)
        self.label += lists.suffix
        self.names, self.classes = lists.names, len(lists.names)
        self.train, self.val = lists.train, lists.test
        self.held_out = self.train[::10]
        self._look(lists.columns)

    def read(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """See `PointTask`."""
        return torch.from_numpy(self.rows(shape)[:, : self.channels]), torch.tensor(shape.label)

    def judge(self, outputs: Tensor, shapes: Sequence[Shape], targets: Tensor) -> list[float]:
        """1 for a shape whose class has the largest logit, of equal ones the first."""
        return (outputs.argmax(1) == targets).double().tolist()

    def summary(self, shapes: Sequence[Shape], numbers: Sequence[float]) -> dict[str, float]:
        """See `PointTask`."""
        means = class_means([shape.label for shape in shapes], numbers)
        return {"macc": 100 * sum(means) / len(means), "oa": 100 * sum(numbers) / len(numbers)}
