"""Uniform codes of weights with two ranges a row: one for the columns in which outliers gather, one for the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aiqvit.quant.observers import PERCENTILES, Observer
from aiqvit.quant.quantizers.base import Measure
from aiqvit.quant.quantizers.uniform import Uniform


class DualUniform(Uniform):
    """ERQ's dual uniform quantizer of a weight (out, in): scale and zero-point by row and by group of columns.

    The matrix is two integer products at inference, which the scheme card says.
    """

    kind = "dual uniform"

    def __init__(self, bits: int, axis: int | None = 0, observer: Observer = PERCENTILES) -> None:
        super().__init__(bits, axis, observer)
        self.note = "two scales a row"
        self.register_buffer("second_scale", torch.ones(1))
        self.register_buffer("second_zero", torch.zeros(1))
        self.register_buffer("second", torch.zeros(1, dtype=torch.bool))  # (in,), columns of the second group

    def options(self) -> dict[str, Any]:
        """See `Quantizer`."""
        return {}

    @torch.no_grad()
    def calibrate(self, x: Tensor, measure: Measure | None = None) -> None:
        """Divide the columns, then find the ranges of each group by its own error."""
        self.second = outlier_columns(x)
        for group, names in ((~self.second, ("scale", "zero")), (self.second, ("second_scale", "second_zero"))):
            part = Uniform(self.bits, 0, self.observer)
            part.calibrate(x[:, group] if group.any() else x)
            for name, value in zip(names, (part.scale, part.zero), strict=True):
                getattr(self, name).data = value.data

    def grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero-point of each weight, (out, in)."""
        pairs = ((self.second_scale, self.scale), (self.second_zero, self.zero))
        scale, zero = (torch.where(self.second, second, first) for second, first in pairs)
        return scale, zero


def outlier_columns(weight: Tensor) -> Tensor:
    """The columns (in,) of a weight (out, in) that are outliers in the most rows: as many as a twentieth of the rows.

    An outlier is above the 99th percentile of its row's positive values or below the 1st of its negative ones.
    """
    nothing = weight.new_tensor(torch.nan)
    high = torch.where(weight > 0, weight, nothing).nanquantile(0.99, dim=1, keepdim=True)
    low = torch.where(weight < 0, weight, nothing).nanquantile(0.01, dim=1, keepdim=True)
    counts = ((weight > high) | (weight < low)).sum(0)
    most = min(max(len(weight) // 20, 1), weight.shape[1] - 1)
    chosen = torch.zeros_like(counts, dtype=torch.bool)
    chosen[counts.argsort(descending=True, stable=True)[:most]] = True
    return chosen
