"""Batch normalization in evaluation is a scale and a shift, which the layer before it takes over."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def fold_batchnorm(model: nn.Module) -> nn.Module:
    """Fold every BatchNorm that follows a Linear or Conv2d in a Sequential into that layer; it becomes Identity.

    The function of the model in evaluation stays the same.
    """
    for sequence in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for i in range(len(sequence) - 1):
            layer, norm = sequence[i], sequence[i + 1]
            if isinstance(layer, nn.Linear | nn.Conv2d) and isinstance(norm, _BatchNorm):
                fold(layer, norm)
                sequence[i + 1] = nn.Identity()
    return model


def fold(layer: nn.Linear | nn.Conv2d, norm: _BatchNorm) -> None:
    """Let `layer` do what `norm` does behind it."""
    scale = (norm.running_var + norm.eps).rsqrt()  # (out,)
    if norm.affine:
        scale = scale * norm.weight
    bias = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
    bias = bias * scale + (norm.bias if norm.affine else 0)
    layer.weight = nn.Parameter(layer.weight * scale.view(-1, *[1] * (layer.weight.dim() - 1)))
    layer.bias = nn.Parameter(bias)
