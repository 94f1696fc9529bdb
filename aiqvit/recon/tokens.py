"""One scale a token: ranges found for a tensor, or a head of it, are repeated for each position before they train.

FIMA-Q's code does so with every input of a Linear that has three dimensions, and with both operands of the attention
products; values get a scale a head and channel. Zero-points stay shared.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from aiqvit.quant.card import sites
from aiqvit.quant.quantizers import Uniform
from aiqvit.recon.capture import device_of
from aiqvit.recon.walk import UnitData

TOKEN = -2


@torch.no_grad()
def scales_by_token(data: UnitData) -> None:
    """Give the calibrated uniform activations of a unit a scale for each of the tokens (N,) of its first sample."""
    hooks = [q.register_forward_hook(partial(_repeat, q)) for _, q in sites(data.unit)
             if isinstance(q, Uniform) and q.site.operand == "activation" and q.mode == "on"]
    args, kwargs = data.inputs.gather([0], device_of(data.unit))
    try:
        data.unit(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()


def _repeat(quantizer: Uniform, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
    """Scales (1,) to (N, 1) in front of a Linear, to (1, H, N, 1) of a product, (1, H, 1, D) of values."""
    x = args[0]
    heads = quantizer.role in ("query", "key", "value", "post_softmax")
    if x.dim() != (4 if heads else 3):
        return
    shape = (x.shape[-2], 1)
    if heads:
        shape = (1, x.shape[1], *((1, x.shape[-1]) if quantizer.role == "value" else shape))
    quantizer.scale.data = quantizer.scale.expand(shape).clone()
    quantizer.axis = TOKEN
    quantizer.note = "a head and channel" if quantizer.role == "value" else ""
