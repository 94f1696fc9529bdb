"""A detector's forward pass for calibration: all that it computes, as tensors that a gradient can flow back from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

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
    The regions of an image are those that the first model finds that is run on it to the end; they stay with the image,
    so that outputs of several models can be compared, whatever images are joined. Images of a batch have one size.
    """
    data = model.data_preprocessor(collate(batch), False)
    metas = [sample.metainfo for sample in data["data_samples"]]
    maps = model.extract_feat(data["inputs"])
    scores, deltas = model.rpn_head(maps)
    outputs = [*scores, *deltas]
    _keep(batch, 0, lambda: _proposals(model.rpn_head, scores, deltas, metas))
    head = model.roi_head
    stages = getattr(head, "num_stages", None)
    for stage in range(stages or 1):
        which = () if stages is None else (stage,)
        rois = _kept(batch, stage)
        found = head._bbox_forward(*which, maps, rois)
        classes, boxes = found["cls_score"], found["bbox_pred"]
        outputs += [classes, boxes.unflatten(1, (-1, 4))]
        if stages is not None:
            _keep(batch, stage + 1,
                  lambda: _refined(head.bbox_head[stage], rois, classes, boxes, metas[0]))  # noqa: B023 (called at once)
    best = _kept(batch, stages or 0, MASKS)
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


def _keep(batch: list[Sample], stage: int, find: Callable[[], Tensor]) -> None:
    """Give the samples that have no regions of a stage theirs out of those, (n, 5), that `find` finds for all."""
    kept = [sample.setdefault("regions", []) for sample in batch]
    if any(len(stages) == stage for stages in kept):
        rois = find()
        for index, stages in enumerate(kept):
            if len(stages) == stage:
                stages.append(rois[rois[:, 0] == index, 1:])


def _kept(batch: list[Sample], stage: int, most: int | None = None) -> Tensor:
    """The regions of a stage, the first `most` of each sample, (n, 5), each index within the batch and box."""
    return torch.cat([pad(sample["regions"][stage][:most], (1, 0), value=index) for index, sample in enumerate(batch)])
