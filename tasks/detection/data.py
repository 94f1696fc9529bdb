"""COCO's folder layout: found, checked, loaded by MMDetection's test pipeline, judged by its CocoMetric."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiqvit.tasks.detection.forward import Sample
from aiqvit.tasks.detection.models import DATASET, shipped
from aiqvit.tasks.pictures import SUFFIXES

from aiqvit.interfaces import UserError

ANNOTATIONS = "annotations/instances_val2017.json"
TRAIN, VAL = "train2017", "val2017"
KEYS = {"mAP": "", "mAP_50": "_50", "mAP_75": "_75", "mAP_s": "_s", "mAP_m": "_m", "mAP_l": "_l"}
KINDS = {"bbox": "box_ap", "segm": "mask_ap"}


class CocoFolder:
    """Images to calibrate on and to evaluate on, with the annotations of the latter.

    Attributes: `train` and `val`, paths; `checksum`, of names, sizes and annotations.
    """

    def __init__(self, root: Path, classes: Sequence[str], scale: tuple[int, int]) -> None:
        """`classes` are those of the detector's head, `scale` the longer and the shorter side of its input.

        Raises `UserError` for what is missing, and for categories that are not `classes`.
        """
        self.root, self.classes, self.scale = root, tuple(classes), scale
        self.annotations = root / ANNOTATIONS
        for wanted in (root, root / TRAIN, root / VAL):
            if not wanted.is_dir():
                raise UserError(f"folder {str(wanted)!r} does not exist: looked for {TRAIN}/, {VAL}/ and {ANNOTATIONS}")
        content = self._read()
        self.train = sorted(p for p in (root / TRAIN).iterdir() if p.suffix.lower() in SUFFIXES)
        if not self.train:
            raise UserError(f"no images in {str(root / TRAIN)!r}")
        images = sorted(content["images"], key=lambda image: image["id"])
        self.ids, self.val = [i["id"] for i in images], [root / VAL / i["file_name"] for i in images]
        missing = [p.name for p in self.val if not p.is_file()]
        if missing:
            raise UserError(f"{ANNOTATIONS} lists {len(missing)} images that are not in {str(root / VAL)!r}: "
                            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}")
        digest = hashlib.sha256(self.annotations.read_bytes())
        for path in (*self.train, *self.val):
            digest.update(f"{path.parent.name}/{path.name} {os.stat(path).st_size}\n".encode())
        self.checksum = digest.hexdigest()

    def _read(self) -> dict[str, Any]:
        if not self.annotations.is_file():
            raise UserError(f"annotations file {str(self.annotations)!r} does not exist")
        try:
            content = json.loads(self.annotations.read_text(encoding="utf-8"))
            names = tuple(category["name"] for category in content["categories"])
            _ = [(image["id"], image["file_name"]) for image in content["images"]], content["annotations"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"annotations file {str(self.annotations)!r} is not in COCO's format: {error!r}") from error
        if names != self.classes:
            differ = next((f"{a!r} instead of {b!r}" for a, b in zip(names, self.classes, strict=False) if a != b),
                          "the first ones are alike")
            raise UserError(f"{str(self.annotations)!r} has {len(names)} categories that do not match the "
                            f"{len(self.classes)} classes of the detector's head: {differ}")
        if not content["images"]:
            raise UserError(f"annotations file {str(self.annotations)!r} lists no images")
        return content

    def sample(self, path: Path, identity: int = 0) -> Sample:
        """An image through MMDetection's test pipeline. Raises `UserError` for one that cannot be read."""
        try:
            return self._pipeline()({"img_path": str(path), "img_id": identity})
        except Exception as error:
            raise UserError(f"broken image {str(path)!r}: {error}") from error

    def pipeline(self) -> list[dict[str, Any]]:
        """The config of the test pipeline, without annotations, which no detector needs to predict."""
        steps = [dict(step) for step in shipped(DATASET).test_pipeline if step["type"] != "LoadAnnotations"]
        for step in steps:
            if step["type"] == "Resize":
                step["scale"] = self.scale
        return steps

    def _pipeline(self) -> Any:
        if not hasattr(self, "_steps"):
            from mmcv.transforms import Compose

            self._steps = Compose(self.pipeline())
        return self._steps

    def judge(self, predictions: list[dict[str, Any]], identities: Sequence[int]) -> dict[str, float]:
        """Box and mask AP in percent of predictions on the images of these ids, by CocoMetric.

        A prediction is a DetDataSample as a dictionary. An AP over no object at all is left out.
        """
        from mmdet.evaluation import CocoMetric

        with contextlib.redirect_stdout(io.StringIO()):
            logging.disable(logging.ERROR)
            try:
                metric = CocoMetric(ann_file=str(self.annotations), metric=list(KINDS))
                metric.dataset_meta = {"classes": self.classes}
                metric.img_ids = list(identities)
                metric.process({}, predictions)
                found = metric.compute_metrics(metric.results)
            finally:
                logging.disable(logging.NOTSET)
        values = {f"{name}{end}": found.get(f"{kind}_{key}", 0.0)
                  for kind, name in KINDS.items() for key, end in KEYS.items()}
        return {name: round(100 * value, 1) for name, value in values.items() if value >= 0}
