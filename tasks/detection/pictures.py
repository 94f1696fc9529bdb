"""Predictions of two detectors on an image, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aiqvit.tasks.pictures import read_rgb
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

SHOWN = 0.3  # least score of a prediction that is drawn
LEAST = 400  # pixels that the shorter side has at least, so that classes and scores can be read
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6", "#bcf60c")


def side_by_side(path: Path, predictions: Sequence[dict[str, Any]], classes: Sequence[str]) -> Image.Image:
    """The image once for each prediction, with its masks, boxes, classes and scores."""
    pixels = pil_to_tensor(read_rgb(path))  # (3, H, W)
    zoom = -(-LEAST // min(pixels.shape[1:]))  # rounded up
    return to_pil_image(torch.cat([drawn(pixels, prediction, classes, zoom) for prediction in predictions], 2))


def boxes_side_by_side(path: Path, said: Sequence[Mapping[str, np.ndarray]], classes: Sequence[str]) -> Image.Image:
    """The image once for each run, with the boxes, classes and scores in its outcomes."""
    pixels = pil_to_tensor(read_rgb(path))  # (3, H, W)
    zoom = -(-LEAST // min(pixels.shape[1:]))  # rounded up
    return to_pil_image(torch.cat([boxed(enlarged(pixels, zoom), arrays, classes, zoom) for arrays in said], 2))


def boxed(pixels: Tensor, arrays: Mapping[str, np.ndarray], classes: Sequence[str], zoom: int) -> Tensor:
    """An image (3, H, W) uint8 with the boxes of `aiqvit.tasks.detection.matching`, of pixels that were `zoom` times
    as large."""
    rows = np.flatnonzero(arrays["score"] >= SHOWN)
    if not len(rows):
        return pixels
    labels = [int(label) for label in arrays["category"][rows]]
    names = [classes[label] if label < len(classes) else f"class {label}" for label in labels]
    texts = [f"{name} {100 * score:.0f}" for name, score in zip(names, arrays["score"][rows].tolist(), strict=True)]
    colours = [COLOURS[label % len(COLOURS)] for label in labels]
    return draw_bounding_boxes(pixels, zoom * torch.from_numpy(arrays["box"][rows]), texts, colors=colours)


def drawn(pixels: Tensor, prediction: dict[str, Any], classes: Sequence[str], zoom: int) -> Tensor:
    """An image (3, H, W) uint8, `zoom` times as large, with one prediction.

    A prediction is a DetDataSample as a dictionary, its masks run-length encoded.
    """
    from pycocotools.mask import decode

    found = prediction["pred_instances"]
    rows = (found["scores"] >= SHOWN).nonzero().flatten().tolist()
    if not rows:
        return enlarged(pixels, zoom)
    labels = [int(found["labels"][i]) for i in rows]
    colours = [COLOURS[label % len(COLOURS)] for label in labels]
    masks = torch.stack([torch.from_numpy(decode(found["masks"][i])).bool() for i in rows])
    pixels = enlarged(draw_segmentation_masks(pixels, masks, alpha=0.5, colors=colours), zoom)
    texts = [f"{classes[label]} {100 * float(found['scores'][i]):.0f}" for i, label in zip(rows, labels, strict=True)]
    return draw_bounding_boxes(pixels, zoom * found["bboxes"][rows].cpu(), texts, colors=colours)


def enlarged(pixels: Tensor, zoom: int) -> Tensor:
    """(3, H, W) with every pixel repeated."""
    return pixels.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
