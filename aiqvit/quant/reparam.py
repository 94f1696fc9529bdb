"""Post-LayerNorm reparameterization of RepQ-ViT (Li et al., ICCV 2023): per-channel ranges become one per tensor.

With channel scales s and zero-points z and their means s~, z~ (z~ rounded): r1 = s / s~ and b = -s~ (z - z~) turn the
LayerNorm output y into y / r1 - b; the next Linear absorbs the inverse. The full-precision function is unchanged, and
the tensor quantizer on the new values equals the channel quantizer on the old ones.
"""

from __future__ import annotations

import torch
from torch import nn

from aiqvit.quant.layers import QuantLinear
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.surgery import norm_pairs


@torch.no_grad()
def reparameterize(model: nn.Module) -> None:
    """Turn every per-channel post-LayerNorm quantizer of the model into a per-tensor one; re-observe those weights."""
    for norm, linear in norm_pairs(model):
        if linear.input_quantizer.axis == -1:
            reparameterize_pair(norm, linear)
            linear.weight_quantizer.observe(linear.weight)


@torch.no_grad()
def reparameterize_pair(norm: nn.LayerNorm, linear: QuantLinear) -> None:
    """Fold one LayerNorm's channel ranges into it and the Linear behind it; a constant channel (weight 0) stays."""
    q: Uniform = linear.input_quantizer
    live = norm.weight != 0  # (C,)
    tensor_scale = q.scale[live].mean().reshape(1)
    tensor_zero = q.zero[live].mean().round().reshape(1)
    r1 = torch.where(live, q.scale / tensor_scale, torch.ones_like(q.scale))  # (C,)
    shift = torch.where(live, -tensor_scale * (q.zero - tensor_zero), torch.zeros_like(q.scale))  # b, (C,)
    norm.weight.data = norm.weight / r1
    norm.bias.data = norm.bias / r1 - shift
    weight = linear.weight * r1  # (out, C)
    bias = linear.bias if linear.bias is not None else torch.zeros_like(weight[:, 0])
    linear.bias = nn.Parameter(bias + weight @ shift, requires_grad=False)
    linear.weight = nn.Parameter(weight, requires_grad=False)
    q.axis, q.scale.data, q.zero = None, tensor_scale, tensor_zero
