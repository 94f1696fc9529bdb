"""COCO's folder layout: found, checked, loaded by MMDetection's test pipeline, judged by its CocoMetric."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiqvit.tasks.detection.annotations import read_annotations
from aiqvit.tasks.detection.forward import Sample
from aiqvit.tasks.detection.models import DATASET, shipped
from aiqvit.tasks.pictures import SUFFIXES, header, read_checked, reason
from aiqvit.tasks.texts import is_file, located, read_list

from aiqvit.interfaces import UserError

ANNOTATIONS = "annotations/instances_val2017.json"
CLASSES = "classes.txt"  # names of the head's classes, where they are not COCO's
ORIENTATION = 0x0112  # the EXIF tag
TRAIN, VAL = "train2017", "val2017"
KEYS = {"mAP": "", "mAP_50": "_50", "mAP_75": "_75", "mAP_s": "_s", "mAP_m": "_m", "mAP_l": "_l"}
KINDS = {"bbox": "box_ap", "segm": "mask_ap"}


class CocoFolder:
    """Images to calibrate on and to evaluate on, with the annotations of the latter.

    Attributes: `train` and `val`, paths; `ids` of `val`; `content`, the annotations; `classes`, in the order of the
    detector's labels.
    """

    def __init__(self, root: Path, classes: Sequence[str], scale: tuple[int, int]) -> None:
        """`classes` are the usual ones, `scale` the longer and the shorter side of the detector's input.

        Raises `UserError` for what is missing or wrong.
        """
        self.root, self.usual, self.scale = root, tuple(classes), scale
        self.annotations = root / ANNOTATIONS
        for wanted in (root, root / TRAIN, root / VAL):
            if not wanted.is_dir():
                raise UserError(f"folder {str(wanted)!r} does not exist: looked for {TRAIN}/, {VAL}/ and {ANNOTATIONS}")
        missing: list[str] = []
        self.content = read_annotations(self.annotations, self._finder(missing), picture_size)
        if missing:
            raise UserError(f"{ANNOTATIONS} lists {len(missing)} images that are not in {str(root / VAL)!r}: "
                            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}")
        self.train = sorted(p for p in (root / TRAIN).iterdir() if p.suffix.lower() in SUFFIXES)
        if not self.train:
            raise UserError(f"no images in {str(root / TRAIN)!r}")
        self.ids = [image["id"] for image in self.content.images]
        self.val = [image["file"] for image in self.content.images]
        named = root / CLASSES
        self.listed = tuple(read_list(named, "a class a line, in the order of the head")) if named.is_file() else ()
        usual = not self.listed and set(self.content.categories) <= set(self.usual)
        self.classes = self.usual if usual else self.listed or tuple(self.content.categories)

    def _finder(self, missing: list[str]) -> Callable[[str], Path]:
        def find(name: str) -> Path:
            path = located(name, self.root / VAL, self.root)
            if not is_file(path):
                missing.append(name)
            return path

        return find

    def fit(self, count: int, source: str) -> None:
        """Set `classes` to the names of a head of `count` classes; all categories are among them, in any order.

        They are those of `classes.txt` where there is one, COCO's where they are as many and have all categories, and
        otherwise the categories as the annotations list them. Raises `UserError` when their number is another.
        """
        own = tuple(self.content.categories)
        usual = not self.listed and count == len(self.usual) and set(own) <= set(self.usual)
        names = self.listed or (self.usual if usual else own)
        foreign = next((name for name in own if name not in names), None)
        if len(names) != count or foreign is not None:
            has = CLASSES if self.listed else f"{str(self.annotations)!r}"
            odd = "" if foreign is None else f"; the category {foreign!r} is not among them"
            raise UserError(f"weights {source!r} have a head of {count} classes, but {has} has {len(names)}: "
                            f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}{odd}; name the classes of the "
                            f"head in {str(self.root / CLASSES)!r}, one a line")
        self.classes = names

    def sample(self, path: Path, identity: int = 0) -> Sample:
        """An image through MMDetection's test pipeline. Raises `UserError` for one that cannot be read."""
        try:
            return self._pipeline()({"img_path": str(path), "img_id": identity})
        except Exception as error:  # of the decoders, whatever a damaged file makes them raise
            raise UserError(f"broken image {str(path)!r}: {reason(error)}") from error

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

            self._steps = Compose([_decode if step["type"] == "LoadImageFromFile" else step
                                   for step in self.pipeline()])
        return self._steps

    def judge(self, predictions: list[dict[str, Any]], identities: Sequence[int]) -> dict[str, float]:
        """Box and mask AP in percent of predictions on the images of these ids, by CocoMetric.

        A prediction is a DetDataSample as a dictionary. Where there is no object to find, or are no masks, the two main
        APs are NaN and the others left out.
        """
        from mmdet.evaluation import CocoMetric

        if not self.content.scored(identities):
            return dict.fromkeys(KINDS.values(), float("nan"))
        kinds = {kind: name for kind, name in KINDS.items() if kind == "bbox" or self.content.masks}
        with contextlib.redirect_stdout(io.StringIO()):
            logging.disable(logging.ERROR)
            try:
                metric = CocoMetric(metric=list(kinds))
                metric._coco_api = self._index()
                metric.dataset_meta = {"classes": self.classes}
                metric.img_ids = list(identities)
                metric.process({}, predictions)
                found = metric.compute_metrics(metric.results)
            finally:
                logging.disable(logging.NOTSET)
        values = {f"{name}{end}": found.get(f"{kind}_{key}", 0.0)
                  for kind, name in kinds.items() for key, end in KEYS.items()}
        nothing = dict.fromkeys(KINDS.values(), float("nan"))
        return nothing | {name: round(100 * value, 1) for name, value in values.items() if value >= 0}

    def _index(self) -> Any:
        """The annotations for COCO's tools, with the categories in the order of `classes`."""
        from mmdet.datasets.api_wrappers import COCO

        known, fresh = self.content.categories, max(self.content.categories.values()) + 1
        index = COCO()
        index.dataset = {
            "images": [{**image, "file_name": image["file"].name} for image in self.content.images],
            "annotations": [dict(entry) for entry in self.content.entries],
            "categories": [{"id": known.get(name, fresh + i), "name": name} for i, name in enumerate(self.classes)],
        }
        index.createIndex()
        index.img_ann_map, index.cat_img_map = index.imgToAnns, index.catToImgs
        return index


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height as a picture is shown; None where it cannot be read, which loading it will say."""
    try:
        with header(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) in range(5, 9)
            return image.size[::-1] if turned else image.size
    except Exception:  # of the decoders, whatever a damaged file makes them raise
        return None


def _decode(results: dict[str, Any]) -> dict[str, Any]:
    """What MMDetection's `LoadImageFromFile` does, by OpenCV too, with a picture that Pillow knows and finds in bounds.

    Raises `ValueError` for one in which OpenCV sees another size, and as `read_checked` does.
    """
    import mmcv

    content, size = read_checked(results["img_path"])
    pixels = mmcv.imfrombytes(content)
    if pixels is None or tuple(sorted(pixels.shape[:2])) != tuple(sorted(size)):
        raise ValueError("it cannot be decoded")
    return {**results, "img": pixels, "img_shape": pixels.shape[:2], "ori_shape": pixels.shape[:2]}
