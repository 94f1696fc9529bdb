"""Post-LayerNorm reparameterization of RepQ-ViT (Li et al., ICCV 2023): per-channel ranges become one per tensor.

With channel scales s and zero-points z and their means s~, z~ (z~ rounded): r1 = s / s~ and b = -s~ (z - z~) turn the
LayerNorm output y into y / r1 - b; the layers behind it absorb the inverse. The full-precision function is unchanged,
and the tensor quantizer on the new values equals the channel quantizer on the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aiqvit.quant.anatomy import norm_readers
from aiqvit.quant.layers import QuantLayer
from aiqvit.quant.quantizers import Uniform


@torch.no_grad()
def reparameterize(model: nn.Module) -> None:
    """Turn every per-channel post-LayerNorm quantizer of the model into a per-tensor one.

    The ranges of the weights behind it are found anew, by the criterion of their observers. Layers that share a norm
    get the range of the first.
    """
    for norm_name, names in norm_readers(model):
        layers = [model.get_submodule(name) for name in names]
        if not all(isinstance(layer, QuantLayer) and layer.input_quantizer.axis == -1 for layer in layers):
            continue
        if any(layer.input_quantizer.scale.numel() != layer.weight.shape[1] for layer in layers):
            continue  # no sample reached it
        reparameterize_readers(model.get_submodule(norm_name), layers)
        for layer in layers:
            layer.weight_quantizer.calibrate(layer.weight, layer.scale_by_input_rms)


@torch.no_grad()
def reparameterize_readers(norm: nn.LayerNorm, layers: Sequence[QuantLayer]) -> None:
    """Fold one LayerNorm's channel ranges into it and the Linear layers behind it.

    Channels whose range says nothing keep their place: those of weight 0, and those of a scale that is next to 0 beside
    the mean, as when the whole norm is 0.
    """
    q: Uniform = layers[0].input_quantizer
    live = (norm.weight != 0) & (q.scale > 1e-9 * q.scale.max())  # (C,)
    some = live if live.any() else torch.ones_like(live)
    tensor_scale = q.scale[some].mean().reshape(1)
    tensor_zero = q.zero[some].mean().round().reshape(1)
    r1 = torch.where(live, q.scale / tensor_scale, torch.ones_like(q.scale))  # (C,)
    shift = torch.where(live, -tensor_scale * (q.zero - tensor_zero), torch.zeros_like(q.scale))  # b, (C,)
    norm.weight.data = norm.weight / r1
    norm.bias.data = norm.bias / r1 - shift
    for layer in layers:
        absorb(layer, r1, shift)
        layer.input_quantizer.share_range(tensor_scale.clone(), tensor_zero.clone())


def absorb(layer: QuantLayer, r1: Tensor, shift: Tensor) -> None:
    """Let a Linear take x / r1 - shift, each (in,), for x, and give what it gave before."""
    weight = layer.weight * r1  # (out, in)
    bias = layer.bias if layer.bias is not None else torch.zeros_like(weight[:, 0])
    layer.bias = nn.Parameter(bias + weight @ shift, requires_grad=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if layer.input_power is not None:
        mean, power = layer.input_mean / r1, layer.input_power / r1.square()
        layer.input_mean = mean - shift
        layer.input_power = (power - 2 * shift * mean + shift.square()).clamp(min=0)
