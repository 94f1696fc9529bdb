"""A small COCO folder of mini scenes for tests, and its ground truth as predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from aiqvit.tasks.coco import Coco
from aiqvit.tasks.detection.data import CocoFolder
from aiqvit.tasks.mini import coco as mini

from aiqvit.interfaces import Outcomes


def small_coco(root: Path) -> Path:
    """Write 12 training and 8 validation scenes."""
    (root / "annotations").mkdir()
    mini._write(root, "train", 12)
    mini._write(root, "val", 8)
    return root


def ground_truth(files: CocoFolder, identity: int) -> dict[str, Any]:
    """The annotations of an image, crowds left out, as a detector would predict them at full confidence."""
    from pycocotools.coco import COCO
    from pycocotools.mask import encode

    content = json.loads(files.annotations.read_text(encoding="utf-8-sig"))
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    image = coco.imgs[identity]
    labels = {category["id"]: i for i, category in enumerate(content["categories"])}
    found = [a for a in coco.imgToAnns[identity] if not a["iscrowd"] and a["category_id"] in labels]
    boxes = torch.tensor([a["bbox"] for a in found], dtype=torch.float64).reshape(-1, 4)
    return {
        "img_id": identity,
        "ori_shape": (image["height"], image["width"]),
        "pred_instances": {
            "bboxes": torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
            "scores": torch.ones(len(found)),
            "labels": torch.tensor([labels[a["category_id"]] for a in found], dtype=torch.long),
            "masks": [encode(coco.annToMask(a).astype("uint8", order="F")) for a in found],
        },
    }


def scores(files: CocoFolder, predictions: list[dict[str, Any]], identities: list[int]) -> dict[str, float]:
    """Box and mask AP of predictions on these images, as a record has them."""
    outcomes = Outcomes(tuple(map(str, identities)), files.matched(predictions, identities))
    return Coco.__new__(Coco).metrics_of(outcomes, len(identities))
