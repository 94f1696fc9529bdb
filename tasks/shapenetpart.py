"""ShapeNetPart segmentation with Point Transformer, in the official layout with normals.

`synsetoffset2category.txt` names the folder of each category, `train_test_split/shuffled_*_file_list.json` the shapes,
and `<folder>/<shape>.txt` holds one point a line: x y z, its normal and its part, counted through all categories.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from aiqvit.tasks.mini import solids
from aiqvit.tasks.models.point_transformer import PointSegmenter
from aiqvit.tasks.point_files import check_files, read_list, read_points, unit_sphere
from aiqvit.tasks.points import PointTask, Shape, class_means
from torch import Tensor

from aiqvit.interfaces import UserError

CATEGORIES = "synsetoffset2category.txt"
PARTS = {  # category to its number of parts; labels count on from category to category
    "Airplane": 4, "Bag": 2, "Cap": 2, "Car": 4, "Chair": 4, "Earphone": 3, "Guitar": 3, "Knife": 2, "Lamp": 4,
    "Laptop": 2, "Motorbike": 6, "Mug": 2, "Pistol": 3, "Rocket": 3, "Skateboard": 3, "Table": 3,
}


class ShapeNetPart(PointTask):
    """Class and instance mIoU: of shapes, averaged within each category and then over them, or over all shapes.

    Shapes are scored on the points that the model is given. A part is chosen among those of the shape's category.
    """

    name = "shapenetpart"
    metrics = ("class_miou", "instance_miou")
    folder = "data/shapenetcore_partanno_segmentation_benchmark_v0_normal"
    kind = PointSegmenter

    def __init__(self, data: str | None = None, strict: bool = False) -> None:
        """See `Task`. Files are read when needed; a broken one is an error whatever `strict` says."""
        root = self._open(data, solids, self.name)
        parts = solids.PARTS if self.mini else PARTS
        self.parts, first = [], 0  # range of labels of each category
        for count in parts.values():
            self.parts.append(range(first, first + count))
            first += count
        self.categories, self.classes, self.channels = tuple(parts), first, 6 + len(parts)
        folders = _folders(root, self.categories)
        self.train, self.held_out, self.val = (_shapes(root, split, folders) for split in ("train", "val", "test"))
        self.names = tuple(f"{name} {count}" for name, count in parts.items())

    def read(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """See `PointTask`; the input is coordinates, normals and the category as one-hot vector."""
        rows = torch.from_numpy(unit_sphere(read_points(shape.path, 7, self.points)))
        target, own = rows[:, 6].long(), self.parts[shape.label]
        if not ((rows[:, 6] == target) & (target >= own.start) & (target < own.stop)).all():
            raise UserError(f"{str(shape.path)!r} has a part that is not one of its category "
                            f"{self.categories[shape.label]}: expected {own.start} to {own.stop - 1}")
        category = torch.zeros(len(rows), len(self.categories))
        category[:, shape.label] = 1
        return torch.cat([rows[:, :6], category], dim=1), target

    def judge(self, outputs: Tensor, shapes: Sequence[Shape], targets: Tensor) -> list[float]:
        """IoU of each shape; outputs (B, N, parts of all categories)."""
        found = []
        for logits, shape, target in zip(outputs, shapes, targets, strict=True):
            own = self.parts[shape.label]
            found.append(shape_iou(logits[:, own.start : own.stop].argmax(1) + own.start, target, own))
        return found

    def summary(self, shapes: Sequence[Shape], numbers: Sequence[float]) -> dict[str, float]:
        """See `PointTask`."""
        means = class_means([shape.label for shape in shapes], numbers)
        return {"class_miou": 100 * sum(means) / len(means), "instance_miou": 100 * sum(numbers) / len(numbers)}


def shape_iou(predicted: Tensor, target: Tensor, parts: Sequence[int]) -> float:
    """Mean over `parts` of intersection over union of the points (N,); a part that is in neither counts as 1."""
    total = 0.0
    for part in parts:
        union = ((predicted == part) | (target == part)).sum().item()
        total += ((predicted == part) & (target == part)).sum().item() / union if union else 1.0
    return total / len(parts)


def _folders(root: Path, categories: Sequence[str]) -> dict[str, int]:
    """Folder name to index of its category."""
    path, what = root / CATEGORIES, "a category and its folder a line, such as Airplane 02691156"
    read_list(path, what)
    folders = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not (words := line.split()):
            continue
        if len(words) != 2:
            raise UserError(f"{str(path)!r}, line {number}: expected {what}")
        name, folder = words
        if name not in categories:
            raise UserError(f"{str(path)!r}, line {number}: {name!r} is not one of {', '.join(categories)}")
        folders[folder] = categories.index(name)
    return folders


def _shapes(root: Path, split: str, folders: dict[str, int]) -> list[Shape]:
    path = root / "train_test_split" / f"shuffled_{split}_file_list.json"
    what = "a list such as [\"shape_data/02691156/1021a0914a7207aff927ed529ad90a11\"]"
    read_list(path, what)
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        pairs = [tuple(entry.split("/")[1:]) for entry in listed]
        shapes = [Shape(root / folder / f"{shape}.txt", folders[folder]) for folder, shape in pairs]
    except KeyError as error:
        raise UserError(f"{str(path)!r} names the folder {error}, which is not in {CATEGORIES}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{str(path)!r} cannot be read: expected {what}") from error
    if not shapes:
        raise UserError(f"{str(path)!r} is empty: expected {what}")
    check_files(listed, [shape.path for shape in shapes], repr(str(path)))
    return shapes
