"""Symmetric codes as published for transformers, adapted to inputs that transformers do not have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aiqvit.quant.observers import PERCENTILES, Observer
from aiqvit.quant.quantizers.base import Measure
from aiqvit.quant.quantizers.uniform import Uniform


class Signed(Uniform):
    """Symmetric codes, but unsigned ones for a tensor without negative values, half of whose codes would be unused.

    A vision transformer has no such inputs; every layer behind a ReLU does, in detection heads and point transformers.
    `unsigned` off keeps the symmetric ones there too, as code written for vision transformers would.
    """

    def __init__(self, bits: int, axis: int | None = None, observer: Observer = PERCENTILES, *,
                 unsigned: bool = True) -> None:
        super().__init__(bits, axis, observer, symmetric=True)
        self.unsigned = unsigned

    def options(self) -> dict[str, Any]:
        """See `Quantizer`; which codes were chosen is part of the state."""
        return {"unsigned": self.unsigned}

    def get_extra_state(self) -> dict[str, Any]:
        """See `Quantizer`."""
        return super().get_extra_state() | {"symmetric": self.symmetric}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See `Quantizer`."""
        super().set_extra_state(state)
        self.symmetric = state["symmetric"]

    def look(self, x: Tensor) -> None:
        """Choose between symmetric and unsigned codes by the sign of a tensor."""
        self.symmetric = not self.unsigned or bool((x < 0).any())

    def calibrate(self, x: Tensor, measure: Measure | None = None) -> None:
        """See `Quantizer`."""
        self.look(x)
        super().calibrate(x, measure)

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`; of unsigned codes only the upper end counts."""
        super().set_range(low if self.symmetric else torch.zeros_like(high), high)
