"""The values that the weights of a layer may take, as solvers need them: column by column, and in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aiqvit.quant.layers import QuantLayer
from aiqvit.quant.quantizers import Uniform


@dataclass(frozen=True)
class Levels:
    """scale (code - zero) with codes 0..last, for the weights of a layer as (out, in)."""

    scale: Tensor  # (out, in), float64
    zero: Tensor
    last: int

    @classmethod
    def of(cls, quantizer: Uniform, weight: Tensor) -> Levels:
        """Those of a calibrated weight quantizer for a weight (out, ...)."""
        shape = weight.flatten(1).shape
        scale, zero = (t.detach().double().reshape(len(t), -1).expand(shape) for t in quantizer.grid())
        return cls(scale, zero, quantizer.levels - 1)

    def columns(self, part: slice | Tensor) -> Levels:
        """Those of some columns."""
        return Levels(self.scale[:, part], self.zero[:, part], self.last)

    def quantize(self, weight: Tensor, rounding: Callable[[Tensor], Tensor] = torch.round) -> Tensor:
        """The value on the grid for each weight (out, in); `rounding` may also be `torch.floor` or `torch.ceil`."""
        codes = (rounding(weight / self.scale) + self.zero).clamp_(0, self.last)
        return codes.sub_(self.zero).mul_(self.scale)


def with_bias(layer: QuantLayer) -> Tensor:
    """A layer's weight and bias (zeros where it has none) as (out, in + 1), float64."""
    weight = layer.weight.detach().flatten(1).double()
    bias = torch.zeros_like(weight[:, 0]) if layer.bias is None else layer.bias.detach().double()
    return torch.cat([weight, bias[:, None]], dim=1)


def write_weight(layer: QuantLayer, weight: Tensor) -> None:
    """Give a layer the weight (out, in), or the weight and bias (out, in + 1)."""
    width = layer.weight[0].numel()
    if weight.shape[1] > width:
        layer.bias = nn.Parameter(weight[:, width].to(layer.weight.dtype), requires_grad=False)
    new = weight[:, :width].reshape(layer.weight.shape).to(layer.weight.dtype)
    layer.weight = nn.Parameter(new.contiguous(), requires_grad=False)
