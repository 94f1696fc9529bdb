"""I&S-ViT's shift-uniform-log2 quantizer for post-Softmax maps (Zhong et al., arXiv 2311.10126)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.quant import formats
from aiqvit.quant.observers import PERCENTILES, Observer
from aiqvit.quant.quantizers.base import Measure, Quantizer

SHIFTS = (0.001, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.2, 0.5, 1.0)  # eta


class ShiftUniformLog2(Quantizer):
    """u = -log2(x + eta), uniform codes over the range of u, x' = 2^round(-u') - eta: decoding is a bit shift.

    Values may repeat among codes and be slightly negative. eta is the one with the least squared error of the tensor;
    nothing here is trained. The authors' code searches with 2^b codes and runs with 2^b + 1 (`official_levels`).
    """

    kind = "shift-uniform-log2"

    def __init__(self, bits: int, axis: int | None = None, observer: Observer = PERCENTILES, *,
                 official_levels: bool = False) -> None:
        super().__init__(bits, axis, observer)
        self.official_levels = official_levels
        self.note = f"{self.levels} codes (official_levels)" if official_levels else ""
        self.register_buffer("shift", torch.tensor([SHIFTS[0]]))  # eta
        self.register_buffer("low", torch.zeros(1))  # least u
        self.register_buffer("step", torch.ones(1))  # distance of neighbouring u'

    def options(self) -> dict[str, Any]:
        """See `Quantizer`."""
        return {"official_levels": self.official_levels}

    @property
    def levels(self) -> int:
        """Number of codes."""
        return 2**self.bits + self.official_levels

    @torch.no_grad()
    def calibrate(self, x: Tensor, measure: Measure | None = None) -> None:
        """Set eta and the range of u from `x`, of any shape and not negative; `measure` is not used."""
        errors = []
        for shift in SHIFTS:
            self._set(x, shift, 2**self.bits)
            errors.append((self.decode(self._codes(x, 2**self.bits)) - x).square().mean().item())
        self._set(x, SHIFTS[errors.index(min(errors))], self.levels)

    def fake(self, x: Tensor) -> Tensor:
        """See `Quantizer`; gradient to `x` alone, where its code is in range."""
        with torch.no_grad():
            codes = self._codes(x, self.levels)
            y = self.decode(codes)
        if not (torch.is_grad_enabled() and x.requires_grad):
            return y
        with torch.no_grad():
            raw = (-(x + self.shift).log2() - self.low).div_(self.step).round_()
            inside = (raw >= 0) & (raw <= self.levels - 1)
        return formats.ScaleSTE.apply(x, self.step, y, inside)

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer`."""
        return self._codes(x, self.levels).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        return torch.exp2(torch.round(-(codes * self.step + self.low))) - self.shift

    def trainables(self) -> list[tuple[nn.Parameter, float]]:
        """None."""
        return []

    def _set(self, x: Tensor, shift: float, levels: int) -> None:
        self.shift = torch.full_like(self.shift, shift)
        self.low = -(x.max() + shift).log2().reshape(1)
        self.step = ((-(x.min() + shift).log2() - self.low) / (levels - 1)).clamp(min=1e-6)

    def _codes(self, x: Tensor, levels: int) -> Tensor:
        return (-(x + self.shift).log2() - self.low).div_(self.step).round_().clamp_(0, levels - 1)
