"""Single quantized layers and products as one small model, with the ranges of an input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiqvit.quant.layers import QuantConv2d, QuantLinear
from aiqvit.quant.quantizers import Quantizer, Uniform
from aiqvit.quant.surgery import calibrate

LAYERS = {nn.Linear: QuantLinear, nn.Conv2d: QuantConv2d}


def layer(source: nn.Module, inputs: Quantizer | None = None, weights: Quantizer | None = None) -> nn.Module:
    """A quantized layer with random weights; 8 bits where nothing else is said."""
    draw = torch.Generator().manual_seed(0)
    for parameter in source.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    return LAYERS[type(source)](source, inputs or Uniform(8), weights or Uniform(8, 0))


class Parts(nn.Module):
    """Layers and products by name; a layer gets the input, a product what `operands` makes of it."""

    def __init__(self, x: Tensor, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        self.names = list(parts)
        for name, part in parts.items():
            self.add_module(name, part)
        calibrate(self.requires_grad_(False).eval(), lambda model: model(x))

    def operands(self, x: Tensor) -> tuple[Tensor, ...]:
        """What each part gets."""
        return (x,)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.get_submodule(name)(*self.operands(x)) for name in self.names)


class Products(Parts):
    """Of weights that sum to 1, and of values."""

    def operands(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, H, N, N) twice."""
        return (3 * x).softmax(-1), x
