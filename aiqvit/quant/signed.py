"""Symmetric codes as published for transformers, adapted to inputs that transformers do not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aiqvit.quant.quantizers import Uniform


class Signed(Uniform):
    """Symmetric codes, but unsigned ones for a tensor without negative values, half of whose codes would be unused.

    A vision transformer has no such inputs; every layer behind a ReLU does, in detection heads and point transformers.
    `unsigned` off keeps the symmetric ones there too, as code written for vision transformers would.
    """

    def __init__(self, bits: int, observer: Any, *, unsigned: bool = True) -> None:
        super().__init__(bits, None, observer, symmetric=True)
        self.unsigned = unsigned

    def look(self, x: Tensor) -> None:
        """Choose between symmetric and unsigned codes by the sign of a tensor."""
        self.symmetric = not self.unsigned or bool((x < 0).any())

    def observe(self, x: Tensor, objective: Callable[[Tensor], Tensor] | None = None) -> None:
        """See `Quantizer`."""
        self.look(x)
        super().observe(x, objective)

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`; of unsigned codes only the upper end counts."""
        super().set_range(low if self.symmetric else torch.zeros_like(high), high)
