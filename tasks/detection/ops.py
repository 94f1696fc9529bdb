"""NMS and RoIAlign for an MMCV without compiled ops, by torchvision's kernels of the same meaning.

``install()`` makes this module stand in for ``mmcv._ext``; compiled ops are preferred where they exist. All other ops
of MMCV raise an error that names them.
"""

import contextlib
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms


def install() -> None:
    """Give MMCV its ops, and import MMDetection's models quietly. Raises ``ImportError`` where it is not installed."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of deprecated names, and of ops that no detector here uses
        logging.disable(logging.WARNING)
        try:
            if importlib.util.find_spec("mmcv._ext") is None:
                sys.modules["mmcv._ext"] = sys.modules[__name__]
            import mmdet.models  # noqa: F401
            from mmdet.utils import register_all_modules

            register_all_modules(init_default_scope=True)
        finally:
            logging.disable(logging.NOTSET)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes (n, 4) that no better one overlaps by more than ``iou_threshold``, best first.

    ``offset`` is added to the width and height of every box, 1 for pixel indices.
    """
    return torchvision_nms(boxes + boxes.new_tensor([0, 0, offset, offset]), scores, iou_threshold)


def roi_align_forward(features: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor, *,
                      aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                      pool_mode: int, aligned: bool) -> None:
    """Average-pool features (B, C, H, W) in regions (n, 5), each batch index and box, into output (n, C, h, w)."""
    _only_average(pool_mode)
    output.copy_(torch.ops.torchvision.roi_align(features, rois, spatial_scale, aligned_height, aligned_width,
                                                 sampling_ratio, aligned))


def roi_align_backward(gradient: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, output: Tensor, *,
                       aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Gradient (n, C, h, w) of the pooled values to that of the features, into output (B, C, H, W)."""
    _only_average(pool_mode)
    output.copy_(torch.ops.torchvision._roi_align_backward(gradient, rois, spatial_scale, aligned_height,
                                                           aligned_width, *output.shape, sampling_ratio, aligned))


def _only_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError("RoIAlign by maximum needs an MMCV with compiled ops; average pooling does not")


def __getattr__(name: str) -> Callable:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_: object, **__: object) -> None:
        raise NotImplementedError(f"the op {name!r} needs an MMCV with compiled ops; here are only nms and roi_align")

    return missing
