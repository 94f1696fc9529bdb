"""A detector's forward pass for calibration: all that it computes, as tensors that a gradient can flow back from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Sample = dict[str, Any]  # inputs (3, H, W) uint8 and data_samples, as MMDetection's pipeline packs them
MASKS = 100  # regions an image whose masks are computed, the best ones first


def collate(batch: list[Sample]) -> dict[str, list]:
    """Samples as one batch of MMDetection."""
    return {key: [sample[key] for sample in batch] for key in ("inputs", "data_samples")}


def of_one_size(batches: Sequence[list[Sample]], count: int) -> list[Sample]:
    """Of the first `count` samples those that have the commonest size."""
    samples = [sample for batch in batches for sample in batch][:count]
    sizes = Counter(sample["inputs"].shape for sample in samples)
    return [sample for sample in samples if sample["inputs"].shape == sizes.most_common(1)[0][0]]


def raw_outputs(model: nn.Module, batch: list[Sample]) -> list[Tensor]:
    """Outputs before any selection: objectness and boxes of the RPN, then per stage classes, boxes and masks.

    RPN maps are (B, A or 4 A, H, W) a level, classes (regions, C + 1), boxes (regions, C, 4), masks (regions, C, h, w).
    The regions are those that the first model finds that is run on this batch to the end; they stay with the batch, so
    that outputs of several models can be compared. Images of a batch have one size.
    """
    data = model.data_preprocessor(collate(batch), False)
    metas = [sample.metainfo for sample in data["data_samples"]]
    maps = model.extract_feat(data["inputs"])
    scores, deltas = model.rpn_head(maps)
    outputs = [*scores, *deltas]
    regions = batch[0].setdefault("regions", [])
    if not regions:
        regions.append(_proposals(model.rpn_head, scores, deltas, metas))
    head = model.roi_head
    stages = getattr(head, "num_stages", None)
    for stage in range(stages or 1):
        which = () if stages is None else (stage,)
        found = head._bbox_forward(*which, maps, regions[stage])
        classes, boxes = found["cls_score"], found["bbox_pred"]
        outputs += [classes, boxes.unflatten(1, (-1, 4))]
        if len(regions) == stage + 1 and stages is not None:
            regions.append(_refined(head.bbox_head[stage], regions[stage], classes, boxes, metas[0]))
    best = torch.cat([rois[:MASKS] for rois in _by_image(regions[-1], len(batch))])
    for stage in range(stages or 1):
        which = () if stages is None else (stage,)
        outputs.append(head._mask_forward(*which, maps, best)["mask_preds"])
    return outputs


class Features(nn.Module):
    """Backbone and neck of a detector, which are shared: prepared pictures (B, 3, H, W) to maps (B, C, h, w).

    This part has one size of all tensors for one size of pictures; what follows selects regions.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = detector.backbone, detector.neck
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        return self.neck(self.backbone(x))


def pixels(detector: nn.Module, batch: list[Sample]) -> Tensor:
    """Pictures of one size as the backbone gets them, (B, 3, H, W)."""
    return detector.data_preprocessor(collate(batch), False)["inputs"]


@torch.no_grad()
def _proposals(head: nn.Module, scores: list[Tensor], deltas: list[Tensor], metas: list[dict]) -> Tensor:
    """Regions (n, 5), each batch index and box, best first; the whole image where none is found."""
    found = head.predict_by_feat([s.detach() for s in scores], [d.detach() for d in deltas], batch_img_metas=metas,
                                 rescale=False)
    rois = []
    for index, (result, meta) in enumerate(zip(found, metas, strict=True)):
        height, width = meta["img_shape"]
        boxes = result.bboxes if len(result.bboxes) else scores[0].new_tensor([[0, 0, width, height]])
        rois.append(torch.cat([torch.full_like(boxes[:, :1], index), boxes], 1))
    return torch.cat(rois)


@torch.no_grad()
def _refined(head: nn.Module, rois: Tensor, classes: Tensor, boxes: Tensor, meta: dict) -> Tensor:
    """The regions of the next stage of a cascade: each moved as its most likely class says."""
    moved = head.regress_by_class(rois[:, 1:], classes[:, :-1].argmax(1), boxes, meta)
    return torch.cat([rois[:, :1], moved], 1)


def _by_image(rois: Tensor, count: int) -> list[Tensor]:
    return [rois[rois[:, 0] == index] for index in range(count)]
