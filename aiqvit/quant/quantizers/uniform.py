"""Uniform codes: equal steps, a scale and an integer zero-point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aiqvit.quant import formats
from aiqvit.quant.observers import PERCENTILES, Observer
from aiqvit.quant.quantizers.base import Quantizer, parameter


class Uniform(Quantizer):
    """q = clip(round(x / s) + z, 0, 2^b - 1), x' = s (q - z) (AIQViT Eq. 6).

    `symmetric` fixes z at 2^{b-1}. `include_zero` stretches the range to hold 0, which plain activations and weights
    need; a post-LayerNorm channel far from 0 does without (z is then outside 0..2^b - 1, still an integer).
    """

    kind = "uniform"

    def __init__(self, bits: int, axis: int | None = None, observer: Observer = PERCENTILES, *,
                 symmetric: bool = False, include_zero: bool = True) -> None:
        super().__init__(bits, axis, observer)
        self.symmetric, self.include_zero = symmetric, include_zero
        self.scale = parameter()
        self.register_buffer("zero", torch.zeros(1))

    def options(self) -> dict[str, Any]:
        """See `Quantizer`."""
        return {"symmetric": self.symmetric}

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`."""
        if self.include_zero:
            low, high = low.clamp(max=0), high.clamp(min=0)
        scale, self.zero = formats.affine_qparams(low, high, self.bits, self.symmetric)
        self.scale.data = scale

    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero-point, each of a shape that broadcasts against the tensor."""
        return self.scale, self.zero

    def fake(self, x: Tensor) -> Tensor:
        """See `Quantizer`; gradients to `x` and `scale`."""
        needs = torch.is_grad_enabled() and (x.requires_grad or self.scale.requires_grad)
        scale, zero = self.grid()
        with torch.no_grad():
            if not needs:
                return formats.uniform_fake(x, scale, zero, self.bits)
            y, mask = formats.uniform_round(x, scale, zero, self.bits)
        return formats.ScaleSTE.apply(x, scale, y, mask)

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer`."""
        return formats.uniform_encode(x, *self.grid(), self.bits)

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        return formats.uniform_decode(codes, *self.grid())

    def constrain(self) -> None:
        """Keep scales positive."""
        self.scale.data.clamp_(min=1e-8)

    def share_range(self, scale: Tensor, zero: Tensor) -> None:
        """From a range a channel to one for the tensor, with this scale and zero-point, each (1,)."""
        self.axis, self.scale.data, self.zero = None, scale, zero
