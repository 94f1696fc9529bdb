"""Boxes and masks of COCO annotations: which are usable, and what one says of the other."""

from __future__ import annotations

from typing import Any

from aiqvit.tasks.detection.outlines import is_number, is_run_length, usable_polygons

Size = tuple[int, int]  # height and width of the picture
SLACK = 1.0  # pixels that a box may end outside: rounding


def clean_mask(value: Any, size: Size) -> Any:
    """Polygons that are some, or a run-length code of the picture's size; None for anything else."""
    if isinstance(value, list) and all(size):
        return usable_polygons(value, size)
    return value if isinstance(value, dict) and all(size) and is_run_length(value, size) else None


def fault_of_box(box: Any, size: Size) -> str:
    """Why a box [left, top, width, height] cannot be scored; empty when it can."""
    if box is None:
        return "neither 'bbox' nor 'segmentation'"
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return "a 'bbox' that is not four finite numbers"
    left, top, width, height = box
    if width < 0 or height < 0:
        return "a box of negative size"
    outside = left >= size[1] or top >= size[0] or left + width < 0 or top + height < 0
    return "a box outside of its picture" if all(size) and outside else ""


def partly_outside(box: list[float], size: Size) -> bool:
    """Whether a box ends outside by more than rounding."""
    left, top, width, height = box
    over = max(-left, -top, left + width - size[1], top + height - size[0])
    return all(size) and over > SLACK


def box_of(mask: Any, size: Size) -> list[float]:
    """The box [left, top, width, height] around a mask."""
    from pycocotools.mask import toBbox

    return [float(v) for v in toBbox(_encoded(mask, size))]


def area_of(mask: Any, box: list[float], size: Size) -> float:
    """Pixels of a mask, or of the box where there is none."""
    from pycocotools.mask import area

    return float(box[2] * box[3]) if mask is None else float(area(_encoded(mask, size)))


def _encoded(mask: Any, size: Size) -> Any:
    from pycocotools.mask import frPyObjects, merge

    if isinstance(mask, list):
        return merge(frPyObjects(mask, *size))
    return frPyObjects(mask, *size) if isinstance(mask["counts"], list) else mask
