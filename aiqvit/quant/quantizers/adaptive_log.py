"""AdaLog's logarithmic quantizer with an adaptive base (Wu et al., ECCV 2024), for post-Softmax and post-GELU values.

AdaLog: Post-Training Quantization for Vision Transformers with Adaptive Logarithm Quantizer (arXiv 2407.12951).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aiqvit.quant.observers import PERCENTILES, Observer
from aiqvit.quant.quantizers.base import Measure, Quantizer, parameter
from aiqvit.quant.quantizers.twin import GELU_MINIMUM

DENOMINATOR = 37  # r
NUMERATORS = range(10, 138)  # candidates for q
SMALLEST = 1e-15  # of x / s


class AdaptiveLog(Quantizer):
    """c = round(-log2(x / s) r / q) in base 2^{q/r}, r = 37; x' = s 2^{-floor(c q / r)} T[c], one base for a tensor.

    T is a table of mantissas in b + 1 bits, T[c] = round(2^{-((c q) mod r) / r} M) / M with M = 2^{b+1} - 2, so that
    decoding is a look-up and a shift. The last code means 0; the authors' code keeps 2^b codes and 0, one more than b
    bits hold, and `official_levels` does the same. `shifted` codes x + 0.16997124, which makes GELU's outputs positive,
    and subtracts it again in decoding; the authors move that subtraction into the bias of the layer behind, which gives
    the same sums (`aiqvit.deploy.onnx` does so too). While gradients flow, values are 2^{-c q / r} without the table.
    """

    kind = "adaptive-log"

    def __init__(self, bits: int, axis: None = None, observer: Observer = PERCENTILES, *, shifted: bool = False,
                 official_levels: bool = False) -> None:
        super().__init__(bits, axis, observer)
        self.shifted, self.official_levels = shifted, official_levels
        self.zero_code = 2**bits if official_levels else 2**bits - 1
        self.note = f"{self.levels} codes (official_levels)" if official_levels else ""
        self.scale = parameter()
        self.register_buffer("numerator", torch.full((1,), float(DENOMINATOR)))  # q: base 2 to begin with

    def options(self) -> dict[str, Any]:
        """See `Quantizer`."""
        return {"shifted": self.shifted, "official_levels": self.official_levels}

    @property
    def levels(self) -> int:
        """Number of codes."""
        return self.zero_code + 1

    @property
    def shift(self) -> float:
        """What is added before coding and subtracted after decoding."""
        return GELU_MINIMUM if self.shifted else 0.0

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`; only the upper end counts."""
        self.scale.data = (high + self.shift).clamp(min=1e-8)

    @torch.no_grad()
    def calibrate(self, x: Tensor, measure: Measure | None = None) -> None:
        """The whole range of `x`, of any shape, and the base of the least squared error of `measure(x)`."""
        self.set_range(x, x.max().reshape(1))
        target = x if measure is None else measure(x)
        errors = []
        for numerator in NUMERATORS:
            self.numerator = torch.full_like(self.scale.data, numerator)
            y = self.fake(x)
            errors.append(((y if measure is None else measure(y)) - target).square().mean().item())
        self.numerator = torch.full_like(self.scale.data, NUMERATORS[errors.index(min(errors))])

    def values(self) -> Tensor:
        """What each code stands for, in units of the scale and before the shift: (levels,)."""
        steps = torch.arange(self.levels, device=self.scale.device) * int(self.numerator.item())  # c q
        most = 2 ** (self.bits + 1) - 2
        mantissa = (torch.exp2(-(steps % DENOMINATOR) / DENOMINATOR) * most).round() / most
        table = torch.ldexp(mantissa, -(steps // DENOMINATOR)).to(self.scale.dtype)
        table[-1] = 0
        return table

    def fake(self, x: Tensor) -> Tensor:
        """See `Quantizer`. With the residue of rounding frozen, the slope in x is (x' + shift) / (x + shift).

        It is 0 for what reads back as 0 and what exceeds the scale, which alone moves with the scale.
        """
        if not (torch.is_grad_enabled() and (x.requires_grad or self.scale.requires_grad)):
            return self.decode(self._codes(x))
        x = x + self.shift
        with torch.no_grad():
            codes = self._codes(x, 0.0)
            above = x > self.scale
            inside = (codes < self.zero_code) & (x > SMALLEST * self.scale) & ~above
            smooth = torch.exp2(codes * (self.numerator / -DENOMINATOR)) * self.scale
            slope = torch.where(inside, smooth / x, 0)
        return x * slope + self.scale * above - self.shift

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer`."""
        return self._codes(x).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`. NaN, whose code would be negative, stays NaN."""
        table = torch.cat([self.values() * self.scale - self.shift, torch.full_like(self.scale, torch.nan)])
        index = codes.to(torch.int32)  # four times as fast as int64
        index = torch.where(index < 0, self.levels, index)
        return table.index_select(0, index.flatten()).view(codes.shape)

    def constrain(self) -> None:
        """Keep the scale positive."""
        self.scale.data.clamp_(min=1e-8)

    def _codes(self, x: Tensor, shift: float | None = None) -> Tensor:
        shift = self.shift if shift is None else shift
        ratio = ((x + shift) * (1.0 / self.scale)).clamp_(SMALLEST, 1)
        return ratio.log2_().mul_(-DENOMINATOR / self.numerator).round_().clamp_(max=self.zero_code)

