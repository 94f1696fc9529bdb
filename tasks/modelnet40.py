"""ModelNet classification with Point Transformer: 40 classes, 10 or others, from text or HDF5 files.

`modelnet40_shape_names.txt` lists the classes, `modelnet40_train.txt` and `modelnet40_test.txt` the shapes, and
`<class>/<shape>.txt` holds one point a line: x,y,z and perhaps its normal. All layouts: docs/tasks/points.md.
"""

from __future__ import annotations

import numpy as np
import torch
from aiqvit.tasks.classification import class_mean, faithfulness, mean, said
from aiqvit.tasks.mini import solids
from aiqvit.tasks.models.point_transformer import PointTransformer
from aiqvit.tasks.point_lists import Shape, modelnet
from aiqvit.tasks.points import PointTask
from torch import Tensor

from aiqvit.interfaces import Labelled, Outcomes


class ModelNet40(PointTask):
    """Mean class accuracy (over the classes that are evaluated) and overall accuracy.

    `data` may also be another list in the folder, such as `DIR/subset.txt`, to evaluate on instead of the test list.
    """

    name = "modelnet40"
    metrics = ("macc", "oa")
    counted = ("oa", "agreement")
    taught = True
    folder = "data/modelnet40_normal_resampled"
    kind = PointTransformer

    def __init__(self, data: str | None = None, strict: bool = False, held_out: int | None = None) -> None:
        """See `PointTask`."""
        root = self._open(data, solids, self.name)
        root, test = (root.parent, root.name) if root.is_file() else (root, None)
        lists = modelnet(root, test)
        self.label += lists.suffix
        self.names, self.classes = lists.names, len(lists.names)
        self.train, self.val = lists.train, lists.test
        self.held_out = self.train[::10]
        self._look(lists.columns)
        self._set_aside(held_out, ("kl", "agreement", *self.metrics))

    def read(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """See `PointTask`."""
        return torch.from_numpy(self.rows(shape)[:, : self.channels]), torch.tensor(shape.label)

    def judge(self, outputs: Tensor, batch: Labelled, plain: Tensor | None) -> dict[str, np.ndarray]:
        """See `aiqvit.tasks.classification.said`."""
        return said(outputs, batch.targets[1], plain)

    @classmethod
    def score(cls, outcomes: Outcomes, weights: np.ndarray) -> dict[str, np.ndarray]:
        """`macc`, `oa` and `agreement` in percent, `kl` in nats."""
        label = outcomes.arrays["label"]
        right = outcomes.arrays["top5"][:, 0] == label
        return {"macc": 100 * class_mean(label, right, weights), "oa": 100 * mean(right, weights),
                **faithfulness(outcomes, weights)}
