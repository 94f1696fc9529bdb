"""AIQViT's dynamic focusing quantizer for post-Softmax maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.quant import formats
from aiqvit.quant.observers import PERCENTILES, Observer
from aiqvit.quant.quantizers.base import Quantizer, parameter


class DynamicFocusing(Quantizer):
    """AIQViT Eq. 15: 0 below b1, 2^b - 1 above b2, uniform between; both bounds learned, one pair a Softmax layer.

    The paper does not give the decoding. `decoding`: "affine" x' = b1 + s q (default), "intzp" x' = s (q - z) with an
    integer z and codes clip(round(x / s) + z), "zero_low" as affine but code 0 reads back as 0.
    """

    kind = "dynamic-focusing"

    def __init__(self, bits: int, axis: int | None = None, observer: Observer = PERCENTILES, *,
                 decoding: str = "affine") -> None:
        super().__init__(bits, axis, observer)
        if decoding not in ("affine", "intzp", "zero_low"):
            raise ValueError(f"decoding {decoding!r}: expected affine, intzp or zero_low")
        self.decoding = decoding
        self.note = "" if decoding == "affine" else decoding
        self.b1, self.b2 = parameter(0.0), parameter(1.0)

    def options(self) -> dict[str, Any]:
        """See `Quantizer`."""
        return {"decoding": self.decoding}

    @property
    def step(self) -> Tensor:
        """Distance between neighbouring levels."""
        return (self.b2 - self.b1) / (2**self.bits - 1)

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`."""
        self.b1.data, self.b2.data = low.clone(), torch.maximum(high, low + 1e-6)

    def fake(self, x: Tensor) -> Tensor:
        """See `Quantizer`; gradients to `x`, `b1` and `b2`."""
        with torch.no_grad():
            codes = self._codes(x)
            y = self._values(codes.clone() if self.decoding == "zero_low" else codes)
        if not (torch.is_grad_enabled() and (x.requires_grad or self.b1.requires_grad)):
            return y
        with torch.no_grad():
            low, high = x < self.b1, x > self.b2
            mask = (low | high).logical_not_()
            if self.decoding == "zero_low":
                low, mask = torch.zeros_like(low), mask & (codes > 0)
        return formats.FocusSTE.apply(x, self.b1, self.b2, y, mask, low, high)

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer`."""
        return self._codes(x).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        return self._values(codes.to(self.b1.dtype, copy=True))

    def trainables(self) -> list[tuple[nn.Parameter, float]]:
        """See `Quantizer`."""
        return [(self.b1, self.step.item()), (self.b2, self.step.item())]

    def constrain(self) -> None:
        """Keep 0 <= b1 < b2 <= 1."""
        self.b2.data.clamp_(1e-4, 1.0)
        self.b1.data = torch.minimum(self.b1.data.clamp(min=0.0), self.b2.data - 1e-5)

    def _codes(self, x: Tensor) -> Tensor:
        last, step = 2**self.bits - 1, self.step
        if self.decoding == "intzp":
            return (x * (1.0 / step)).round_().add_(torch.round(-self.b1 / step)).clamp_(0, last)
        return (x - self.b1).mul_(1.0 / step).clamp_(0, last).round_()

    def _values(self, codes: Tensor) -> Tensor:  # overwrites `codes`
        if self.decoding == "intzp":
            return codes.sub_(torch.round(-self.b1 / self.step)).mul_(self.step)
        lowest = codes == 0 if self.decoding == "zero_low" else None
        values = codes.mul_(self.step).add_(self.b1)
        return values if lowest is None else values.mul_(~lowest)
