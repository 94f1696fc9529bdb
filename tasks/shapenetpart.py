"""ShapeNetPart segmentation with Point Transformer, in the official layout with or without normals.

`synsetoffset2category.txt` names the folder of each category, `train_test_split/shuffled_*_file_list.json` the shapes,
and `<folder>/<shape>.txt` holds one point a line: x y z, perhaps its normal, and its part. All layouts:
docs/tasks/points.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from aiqvit.tasks.classification import class_mean, mean
from aiqvit.tasks.mini import solids
from aiqvit.tasks.models.point_transformer import PointSegmenter
from aiqvit.tasks.part_labels import CATEGORIES, OFFICIAL, categories, found_labels
from aiqvit.tasks.point_lists import Shape, add_once
from aiqvit.tasks.points import PointTask
from aiqvit.tasks.texts import LONGEST, MOST, is_file, read_json
from torch import Tensor

from aiqvit.interfaces import Labelled, Outcomes, UserError


class ShapeNetPart(PointTask):
    """Class and instance mIoU: of shapes, averaged within each category and then over them, or over all shapes.

    Shapes are scored on the points that the model is given. A part is chosen among those of the shape's category.
    """

    name = "shapenetpart"
    metrics = ("class_miou", "instance_miou")
    folder = "data/shapenetcore_partanno_segmentation_benchmark_v0_normal"
    kind = PointSegmenter
    after = 1  # the part of a point

    def __init__(self, data: str | None = None, strict: bool = False, held_out: int | None = None) -> None:
        """See `PointTask`."""
        root = self._open(data, solids, self.name)
        found = categories(root, solids.PARTS if self.mini else OFFICIAL)
        self.train, self.held_out, self.val = (_shapes(root, part, found.folders) for part in ("train", "val", "test"))
        self.extra = len(found.names)
        self._look()
        parts = found.parts
        if parts is None:
            files = dict.fromkeys((s.path, s.label) for s in (*self.train, *self.held_out, *self.val))
            parts = found_labels(files, found.names, self.columns)
        self.certain = found.parts is not None  # otherwise there may be parts that no file has
        self.categories, self.parts = tuple(parts), list(parts.values())
        self.classes = 1 + max(max(own) for own in self.parts)
        counts = {name: len(own) if isinstance(own, range) else _said(own) for name, own in parts.items()}
        self.names = tuple(f"{name} {count}" for name, count in counts.items())
        self._set_aside(held_out, self.metrics)

    def _counts(self, classes: int) -> bool:
        return classes == self.classes or not self.certain and classes > self.classes

    def read(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """See `PointTask`; the input is coordinates, perhaps normals, and the category as one-hot vector."""
        rows = torch.from_numpy(self.rows(shape))
        target, own = rows[:, -1].long(), self.parts[shape.label]
        if not ((rows[:, -1] == target) & torch.isin(target, torch.tensor(own))).all():
            raise UserError(f"{str(shape.path)!r} has a part that is not one of its category "
                            f"{self.categories[shape.label]}: expected {_said(own)}")
        category = torch.zeros(len(rows), self.extra)
        category[:, shape.label] = 1
        return torch.cat([rows[:, : self.channels - self.extra], category], dim=1), target

    def judge(self, outputs: Tensor, batch: Labelled, plain: Tensor | None) -> dict[str, np.ndarray]:
        """`category` (B,), and `iou` (B, parts), NaN behind those that a category has; outputs (B, N, all parts)."""
        shapes, targets = batch.targets
        found = np.full((len(shapes), max(map(len, self.parts))), np.nan)
        for row, logits, shape, target in zip(found, outputs, shapes, targets, strict=True):
            own = torch.tensor(self.parts[shape.label])
            row[: len(own)] = part_ious(own[logits[:, own].argmax(1)], target, own.tolist())
        return {"category": np.array([shape.label for shape in shapes], np.int32), "iou": found}

    @classmethod
    def score(cls, outcomes: Outcomes, weights: np.ndarray) -> dict[str, np.ndarray]:
        """`class_miou` and `instance_miou` in percent."""
        ious = np.nanmean(outcomes.arrays["iou"], axis=1)  # (N,)
        return {"class_miou": 100 * class_mean(outcomes.arrays["category"], ious, weights),
                "instance_miou": 100 * mean(ious, weights)}


def part_ious(predicted: Tensor, target: Tensor, parts: Sequence[int]) -> list[float]:
    """Intersection over union of the points (N,) of each part; 1 for a part that is in neither."""
    found = []
    for part in parts:
        union = ((predicted == part) | (target == part)).sum().item()
        found.append(((predicted == part) & (target == part)).sum().item() / union if union else 1.0)
    return found


def _said(labels: Sequence[int]) -> str:
    """`4 to 5`, or all of them."""
    if isinstance(labels, range):
        return f"{labels.start} to {labels.stop - 1}"
    return ", ".join(map(str, labels))


def _shapes(root: Path, split: str, folders: dict[str, int]) -> list[Shape]:
    path = root / "train_test_split" / f"shuffled_{split}_file_list.json"
    what = 'a list such as ["shape_data/02691156/1021a0914a7207aff927ed529ad90a11"]'
    listed = read_json(path, what, most=MOST)
    if not isinstance(listed, list) or not all(isinstance(entry, str) and "/" in entry for entry in listed):
        raise UserError(f"{str(path)!r} cannot be read: expected {what}")
    if any(len(entry) > LONGEST for entry in listed):
        raise UserError(f"{str(path)!r} has an entry of more than {LONGEST} characters: expected {what}")
    if not listed:
        raise UserError(f"{str(path)!r} is empty: expected {what}")
    shapes: dict[Path, Shape] = {}
    for entry in listed:
        *_, folder, name = PurePosixPath(entry.replace("\\", "/")).parts
        if folder not in folders:
            raise UserError(f"{str(path)!r} names the folder {folder!r}, which is not in {CATEGORIES}")
        file = root / folder / f"{name.removesuffix('.txt')}.txt"
        if not is_file(file):
            raise UserError(f"{str(path)!r} names {entry!r}, but there is no file {str(file)!r}{_hint(root, folder)}")
        add_once(shapes, Shape(file, folders[folder]), path, entry)
    return list(shapes.values())


def _hint(root: Path, folder: str) -> str:
    if (root / folder / "points_label").is_dir():
        return "; points/ and points_label/ are the older distribution: take ..._benchmark_v0_normal"
    return ""
