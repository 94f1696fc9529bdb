"""Logarithmic codes of non-negative values."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from aiqvit.quant import formats
from aiqvit.quant.observers import PERCENTILES, Observer
from aiqvit.quant.quantizers.base import Quantizer, parameter


class Log(Quantizer):
    """Base 2^{1/n} logarithm of non-negative values: q = clip(round(-n log2(x / s)), 0, 2^b - 1), x' = s 2^{-q/n}."""

    kind = "log2"
    steps: ClassVar[int] = 1
    zero_code: int | None = None

    def __init__(self, bits: int, axis: int | None = None, observer: Observer = PERCENTILES) -> None:
        super().__init__(bits, axis, observer)
        self.scale = parameter()

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`; only the upper end counts."""
        self.scale.data = high.clamp(min=1e-8)

    def fake(self, x: Tensor) -> Tensor:
        """See `Quantizer`; gradients to `x` and `scale`."""
        needs = torch.is_grad_enabled() and (x.requires_grad or self.scale.requires_grad)
        with torch.no_grad():
            codes = formats.log_encode(x, self.scale, self.steps, self.levels)
            inside = (codes < self.levels - 1).logical_and_(x <= self.scale) if needs else None
            y = formats.log_decode(codes, self.scale, self.steps, self.zero_code)
        return formats.ScaleSTE.apply(x, self.scale, y, inside) if needs else y

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer`."""
        return formats.log_encode(x, self.scale, self.steps, self.levels).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        return formats.log_decode(codes.to(self.scale.dtype, copy=True), self.scale, self.steps, self.zero_code)

    def constrain(self) -> None:
        """Keep scales positive."""
        self.scale.data.clamp_(min=1e-8)


class Log2(Log):
    """AIQViT Eq. 7: powers of two; the smallest code does not mean 0."""


class LogSqrt2(Log):
    """RepQ-ViT's log-sqrt2 for post-Softmax maps; the last code means 0.

    The authors' code keeps 2^b codes and 0, one more than b bits hold; `official_levels` does the same.
    """

    kind = "log-sqrt2"
    steps = 2

    def __init__(self, bits: int, axis: int | None = None, observer: Observer = PERCENTILES, *,
                 official_levels: bool = False) -> None:
        super().__init__(bits, axis, observer)
        self.zero_code = 2**bits if official_levels else 2**bits - 1
        self.official_levels = official_levels
        self.note = f"{self.levels} codes (official_levels)" if official_levels else ""

    def options(self) -> dict[str, Any]:
        """See `Quantizer`."""
        return {"official_levels": self.official_levels}

    @property
    def levels(self) -> int:
        """Number of codes."""
        return self.zero_code + 1
