"""Uniform codes whose range is found anew for each token, at inference too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiqvit.quant import formats
from aiqvit.quant.observers import PERCENTILES, Observer
from aiqvit.quant.quantizers.base import Measure, Quantizer


class DynamicUniform(Quantizer):
    """The codes of `Uniform`, with the range from the least to the largest value of each token, stretched to hold 0.

    Nothing is calibrated, trained or saved. `decode` takes the codes of the tensor that was encoded last.
    """

    kind = "uniform"

    def __init__(self, bits: int, axis: int | None = None, observer: Observer = PERCENTILES) -> None:
        super().__init__(bits, axis, observer)
        self.note = "ranges found at inference"
        self._last: tuple[Tensor, Tensor] | None = None

    @property
    def granularity(self) -> str:
        """See `Quantizer`."""
        return "token"

    def calibrate(self, x: Tensor, measure: Measure | None = None) -> None:
        """Nothing to choose."""

    def ranges(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero-point of each token of `x` (..., C), both (..., 1)."""
        axis = self.site.token_axis
        low, high = x.amin(axis, keepdim=True).clamp(max=0), x.amax(axis, keepdim=True).clamp(min=0)
        return formats.affine_qparams(low, high, self.bits)

    def fake(self, x: Tensor) -> Tensor:
        """See `Quantizer`; the gradient to `x` is that of the identity, as nothing is clipped."""
        with torch.no_grad():
            scale, zero = self.ranges(x)
            if not x.requires_grad:
                return formats.uniform_fake(x, scale, zero, self.bits)
            y, mask = formats.uniform_round(x, scale, zero, self.bits)
        return formats.ScaleSTE.apply(x, scale, y, mask)

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer`."""
        self._last = self.ranges(x)
        return formats.uniform_encode(x, *self._last, self.bits)

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        if self._last is None:
            raise ValueError("decode takes the codes of the tensor that was encoded last: none was")
        return formats.uniform_decode(codes, *self._last)

    def trainables(self) -> list[tuple[nn.Parameter, float]]:
        """None."""
        return []
