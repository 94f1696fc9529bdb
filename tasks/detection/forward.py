"""A detector's forward pass for calibration: all that it computes, as tensors that a gradient can flow back from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from math import ceil

import torch
from aiqvit.tasks.detection.regions import Sample, keep, kept
from torch import Tensor, nn

MASKS = 100  # regions an image whose masks are computed, the best ones first
MASKS_OF_REGIONS = 0.128  # the same where features are compared: GLF-Q has 1000 regions for boxes and 128 for masks


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
    The regions of an image are those that the first model finds that is run on it to the end; they stay with the
    sample, so that outputs of several models can be compared. Images of a batch have one size.
    """
    data = model.data_preprocessor(collate(batch), False)
    metas = [sample.metainfo for sample in data["data_samples"]]
    maps = _maps(model, data["inputs"])
    scores, deltas = model.rpn_head(maps)
    keep(batch, 0, lambda: _proposals(model.rpn_head, scores, deltas, metas))
    return [*scores, *deltas, *_roi_outputs(model.roi_head, maps, batch, metas[0])]


def roi_features(model: nn.Module, batch: list[Sample], most: int) -> list[Tensor]:
    """What the predictors of box and mask heads get: (regions, stages, D) and (regions, stages, C, h, w).

    Of each image the best `most` of the regions that stay with it and, for masks, the best 128 of 1000. Regions are
    those of `raw_outputs`, of this model where an image has none yet.
    """
    if any("regions" not in sample for sample in batch):
        with torch.no_grad():
            raw_outputs(model, batch)
    data = model.data_preprocessor(collate(batch), False)
    seen: dict[str, list[Tensor]] = {"fc_cls": [], "conv_logits": []}
    hooks = [module.register_forward_pre_hook(lambda _, args, found=seen[last]: found.append(args[0]))
             for name, module in model.roi_head.named_modules() if (last := name.rpartition(".")[2]) in seen]
    try:
        _roi_outputs(model.roi_head, _maps(model, data["inputs"]), batch, data["data_samples"][0].metainfo,
                     most, ceil(MASKS_OF_REGIONS * most))
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.stack(stages, 1) for stages in seen.values()]


def _maps(model: nn.Module, pixels: Tensor) -> tuple[Tensor, ...]:
    """What the FPN gives, in float32 where backbone and neck ran in bfloat16: RoIAlign has no gradient in that."""
    return tuple(level.float() for level in model.extract_feat(pixels))


def _roi_outputs(head: nn.Module, maps: tuple[Tensor, ...], batch: list[Sample], meta: dict, most: int | None = None,
                 masks: int = MASKS) -> list[Tensor]:
    """Per stage classes and boxes, then per stage masks, of the best `most` and `masks` regions an image."""
    outputs, stages = [], getattr(head, "num_stages", None)
    for stage in range(stages or 1):
        which = () if stages is None else (stage,)
        rois = kept(batch, stage, most)
        found = head._bbox_forward(*which, maps, rois)
        classes, boxes = found["cls_score"], found["bbox_pred"]
        outputs += [classes, boxes.unflatten(1, (-1, 4))]
        if stages is not None:
            keep(batch, stage + 1, partial(_refined, head.bbox_head[stage], rois, classes, boxes, meta, len(batch)))
    best = kept(batch, -1, masks)
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
def _proposals(head: nn.Module, scores: list[Tensor], deltas: list[Tensor], metas: list[dict]) -> list[Tensor]:
    """Boxes (n, 4) of each image, best first; the whole image where none is found."""
    found = head.predict_by_feat([s.detach().float() for s in scores], [d.detach().float() for d in deltas],
                                 batch_img_metas=metas, rescale=False)
    whole = [scores[0].new_tensor([[0, 0, *meta["img_shape"][::-1]]]) for meta in metas]
    return [result.bboxes if len(result.bboxes) else all_of_it for result, all_of_it in zip(found, whole, strict=True)]


@torch.no_grad()
def _refined(head: nn.Module, rois: Tensor, classes: Tensor, boxes: Tensor, meta: dict, count: int) -> list[Tensor]:
    """Boxes of the next stage of a cascade, of each of `count` images: each moved as its most likely class says."""
    moved = head.regress_by_class(rois[:, 1:], classes[:, :-1].argmax(1), boxes.float(), meta)
    return [moved[rois[:, 0] == index] for index in range(count)]
