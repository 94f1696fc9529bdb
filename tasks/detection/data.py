"""COCO's folder layout: found, checked, loaded by MMDetection's test pipeline, judged by COCO's own tools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiqvit.tasks.detection.annotations import read_annotations
from aiqvit.tasks.detection.forward import Sample
from aiqvit.tasks.detection.matching import matched
from aiqvit.tasks.detection.models import DATASET, shipped
from aiqvit.tasks.pictures import SUFFIXES, header, read_checked, reason
from aiqvit.tasks.texts import is_file, located, read_list

from aiqvit.interfaces import UserError
from aiqvit.io.escape import line

ANNOTATIONS = "annotations/instances_val2017.json"
CLASSES = "classes.txt"  # names of the head's classes, where they are not COCO's
ORIENTATION = 0x0112  # the EXIF tag
TRAIN, VAL = "train2017", "val2017"


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
        self._index: tuple[tuple[str, ...], Any] | None = None  # of COCO's tools, for these classes

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

    def name(self, index: int) -> str:
        """An image to evaluate on, by its place below the folder of these."""
        path, folder = self.val[index], self.root / VAL
        return line(path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name)

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

    def matched(self, predictions: Sequence[dict[str, Any]], identities: Sequence[int]) -> dict[str, Any]:
        """Outcomes of predictions on the images of these ids: see `aiqvit.tasks.detection.matching`."""
        if self._index is None or self._index[0] != self.classes:
            self._index = self.classes, self._indexed()
        ids = [self.content.categories.get(name, self._spare + i) for i, name in enumerate(self.classes)]
        return matched(self._index[1], predictions, identities, ids, self.content.masks)

    @property
    def _spare(self) -> int:
        """The first id of a class that no annotation has."""
        return max(self.content.categories.values()) + 1

    def _indexed(self) -> Any:
        """The annotations for COCO's tools, with the categories in the order of `classes`."""
        from pycocotools.coco import COCO

        index = COCO()
        index.dataset = {
            "images": [{**image, "file_name": image["file"].name} for image in self.content.images],
            "annotations": [dict(entry) for entry in self.content.entries],
            "categories": [{"id": self.content.categories.get(name, self._spare + i), "name": name}
                           for i, name in enumerate(self.classes)],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            index.createIndex()
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
