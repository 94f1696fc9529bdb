"""Mask R-CNN and Cascade Mask R-CNN with Swin, from MMDetection's own config files."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

from aiqvit.tasks.detection.swin import open_blocks
from torch import nn

SWIN = {  # shipped config files of Mask R-CNN; their backbones serve the cascades too
    "swin_t": "swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py",
    "swin_s": "swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py",
}
CASCADE = "_base_/models/cascade-mask-rcnn_r50_fpn.py"
DATASET = "_base_/datasets/coco_instance.py"
MODELS: tuple[str, ...] = ("mask_rcnn_swin_t", "mask_rcnn_swin_s", "cascade_mask_rcnn_swin_t",
                           "cascade_mask_rcnn_swin_s")


def shipped(path: str) -> Any:
    """A config file that MMDetection ships, by its path below `configs`."""
    import mmdet
    from mmengine.config import Config

    root = Path(mmdet.__file__).parent
    folder = next(f for f in (root / ".mim" / "configs", root.parent / "configs") if f.is_dir())
    return Config.fromfile(folder / path)


def config(name: str, classes: int = 80) -> dict[str, Any]:
    """The model part of the config of one of `MODELS`, without the download of pretrained backbones."""
    family, _, swin = name.rpartition("rcnn_")
    model = shipped(SWIN[swin]).model
    if family.startswith("cascade"):
        model, source = shipped(CASCADE).model, model
        model.backbone, model.neck = source.backbone, source.neck
        model.roi_head.bbox_head = [cascade_head(head) for head in model.roi_head.bbox_head]
    model.backbone.pop("init_cfg")
    model.backbone.convert_weights = False
    roi = model.roi_head
    for head in (*(roi.bbox_head if isinstance(roi.bbox_head, list) else [roi.bbox_head]), roi.mask_head):
        head["num_classes"] = classes
    return model


def cascade_head(head: Any) -> dict[str, Any]:
    """A stage's box head as in Swin-Transformer-Object-Detection, from MMDetection's for ResNet.

    Four convolutions and one linear layer, class-specific boxes, GIoU of decoded boxes. BatchNorm stands for SyncBN,
    which has the same parameters and is the same function after training.
    """
    return head.to_dict() | dict(
        type="ConvFCBBoxHead", num_shared_convs=4, num_shared_fcs=1, conv_out_channels=head.in_channels,
        norm_cfg=dict(type="BN", requires_grad=True), reg_class_agnostic=False, reg_decoded_bbox=True,
        loss_bbox=dict(type="GIoULoss", loss_weight=10.0))


def build(model: dict[str, Any]) -> nn.Module:
    """A detector with random weights, in evaluation mode."""
    from aiqvit.tasks.detection.ops import install

    install()
    from mmdet.registry import MODELS as REGISTRY

    logging.disable(logging.WARNING)
    try:
        detector = REGISTRY.build(copy.deepcopy(model))
        if not next(detector.parameters()).is_meta:  # it reads numbers
            detector.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    return detector.eval()


def prepare(detector: nn.Module) -> nn.Module:
    """Make a detector with its weights ready for surgery, in place: blocks opened, layers of torch's own classes."""
    open_blocks(detector.backbone)
    for kind in (nn.Linear, nn.Conv2d):
        for module in detector.modules():
            if isinstance(module, kind):
                module.__class__ = kind  # MMCV has subclasses that only treat empty inputs differently
    return detector.eval().requires_grad_(False)
