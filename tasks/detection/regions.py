"""Regions of images, found once by one model and kept with the samples, so that all models are asked about the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Sample = dict[str, Any]  # inputs (3, H, W) uint8 and data_samples, as MMDetection's pipeline packs them


def keep(batch: Sequence[Sample], stage: int, find: Callable[[], list[Tensor]]) -> None:
    """Give each sample that has none for this stage its boxes (n, 4), those of its place in what `find` gives."""
    lists = [sample.setdefault("regions", []) for sample in batch]
    if all(len(regions) > stage for regions in lists):
        return
    for regions, boxes in zip(lists, find(), strict=True):
        if len(regions) == stage:
            regions.append(boxes)


def kept(batch: Sequence[Sample], stage: int, most: int | None = None) -> Tensor:
    """Regions (n, 5) of a stage, each the sample's index in the batch and a box; the first `most` of each sample."""
    found = [sample["regions"][stage][:most] for sample in batch]
    return torch.cat([torch.cat([torch.full_like(boxes[:, :1], index), boxes], 1) for index, boxes in enumerate(found)])
