"""PTQ4ViT's twin uniform quantizers (Yuan et al., ECCV 2022): two ranges with half of the codes each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.quant import formats
from aiqvit.quant.observers import PERCENTILES, Observer
from aiqvit.quant.quantizers.base import Quantizer

GELU_MINIMUM = 0.16997124  # depth of GELU below zero


@dataclass(frozen=True)
class Splits(Observer):
    """Borders 2^-i of the two ranges of a softmax, least squared error."""

    steps: int = 20

    def ranges(self, x: Tensor, bits: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (0, 2^-i) for every row of x: (G, n)."""
        for i in range(self.steps):
            yield torch.zeros_like(x[:, 0]), torch.full_like(x[:, 0], 2.0**-i)


SPLITS = Splits()


class Twin(Quantizer):
    """Codes 0..h - 1 for one range and h..2^b - 1 for the other, h = 2^{b-1}; nothing is trained."""

    def __init__(self, bits: int, axis: int | None = None, observer: Observer = PERCENTILES) -> None:
        super().__init__(bits, axis, observer)
        self.half = 2 ** (bits - 1)
        self.register_buffer("high", torch.ones(1))

    def fake(self, x: Tensor) -> Tensor:
        """See `Quantizer`; gradient to `x` alone, within the two ranges."""
        with torch.no_grad():
            y = self.decode(self._codes(x))
        if not (torch.is_grad_enabled() and x.requires_grad):
            return y
        return formats.ScaleSTE.apply(x, self.high, y, self._inside(x))

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer`."""
        return self._codes(x).to(torch.int32)

    def trainables(self) -> list[tuple[nn.Parameter, float]]:
        """None."""
        return []


class TwinSoftmax(Twin):
    """[0, t) in steps of t / (h - 1) and [t, 1] in steps of 1 / (h - 1); t = 2^-i, set as the upper end of the range.

    Values of the second range read back as at least t. The authors' code adds the quantized parts below and above t,
    which shifts all that is above by t: `official_sum`.
    """

    kind = "twin-softmax"

    def __init__(self, bits: int, axis: int | None = None, observer: Observer = SPLITS, *,
                 official_sum: bool = False) -> None:
        super().__init__(bits, axis, observer)
        self.official_sum = official_sum
        self.note = "official_sum" if official_sum else ""
        self.set_range(torch.zeros(1), torch.full((1,), 0.01))

    def options(self) -> dict[str, Any]:
        """See `Quantizer`."""
        return {"official_sum": self.official_sum}

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`; `high` is the border t."""
        self.high = high.clone()

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        t, last = self.high, self.half - 1
        below, above = codes * (t / last), (codes - self.half) / last
        if self.official_sum:
            below, above = below + torch.round(t * last) / last, above + t
        else:
            above = torch.maximum(above, t)
        return torch.where(codes < self.half, below, above)

    def _codes(self, x: Tensor) -> Tensor:
        t, last = self.high, self.half - 1
        below = (x * (last / t)).round_().clamp_(0, last)
        above = (x * last).round_().clamp_(0, last) + self.half
        return torch.where(x < t, below, above)

    def _inside(self, x: Tensor) -> Tensor:
        return (x >= 0) & (x <= 1)


class TwinGelu(Twin):
    """Zero and positive values in codes 0..h - 1 up to `high`; negative ones in h codes down to GELU's minimum."""

    kind = "twin-gelu"

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`; the negative step is fixed, the positive one is high / (h - 1/2)."""
        self.high = high.clamp(min=1e-8).clone()

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        negative = (self.half - 1 - codes) * (GELU_MINIMUM / self.half)  # code h is -1 step
        return torch.where(codes < self.half, codes * (self.high / (self.half - 0.5)), negative)

    def _codes(self, x: Tensor) -> Tensor:
        negative = (x * (self.half / GELU_MINIMUM)).round_().clamp_(-self.half, 0)
        positive = (x * ((self.half - 0.5) / self.high)).round_().clamp_(0, self.half - 1)
        return torch.where(negative < 0, self.half - 1 - negative, positive)

    def _inside(self, x: Tensor) -> Tensor:
        return (x >= -GELU_MINIMUM - 0.5 * GELU_MINIMUM / self.half) & (x <= self.high)
