"""Learned rounding of weights: AdaRound (Nagel et al., ICML 2020), as BRECQ and QDrop use it.

Each weight is W / s rounded down plus h(alpha) in [0, 1], a stretched and clipped sigmoid; a regulariser drives h to 0
or 1 while training, after which the choice is made hard.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aiqvit.quant.layers import QuantLayer
from aiqvit.quant.quantizers import Uniform

LOW, HIGH = -0.1, 1.1  # gamma and zeta: the sigmoid is stretched to this range, then clipped to [0, 1]


class AdaRound(nn.Module):
    """Rounding variables alpha beside a frozen weight; at first h is the fraction of W / s, so nothing is rounded."""

    def __init__(self, weight: Tensor, quantizer: Uniform) -> None:
        super().__init__()
        codes = weight / quantizer.scale
        self.register_buffer("base", codes.floor() + quantizer.zero)  # may lie outside 0..2^b - 1: then it is clipped
        fraction = codes - codes.floor()
        self.alpha = nn.Parameter(-((HIGH - LOW) / (fraction - LOW) - 1).log())

    def h(self) -> Tensor:
        """The soft rounding in [0, 1], the shape of the weight."""
        return (self.alpha.sigmoid() * (HIGH - LOW) + LOW).clamp(0, 1)

    def forward(self, weight: Tensor, quantizer: Uniform) -> Tensor:
        """The softly rounded weight s (clip(floor(W / s) + h + z, 0, 2^b - 1) - z)."""
        return self._decoded(self.h(), quantizer)

    def hard(self, quantizer: Uniform) -> Tensor:
        """The weight after every h is rounded to 0 or 1: on the quantizer's grid."""
        return self._decoded((self.h() >= 0.5).to(self.base), quantizer)

    def regulariser(self, beta: float) -> Tensor:
        """Sum of 1 - |2 h - 1|^beta: 0 when every h is 0 or 1."""
        return (1 - (2 * self.h() - 1).abs().pow(beta)).sum()

    def _decoded(self, h: Tensor, quantizer: Uniform) -> Tensor:
        return ((self.base + h).clamp(0, quantizer.levels - 1) - quantizer.zero) * quantizer.scale


@dataclass(frozen=True)
class RoundingPenalty:
    """lambda times the regulariser of all layers; beta falls linearly from 20 to 2 after a warm-up without penalty."""

    rounders: tuple[AdaRound, ...]
    steps: int
    weight: float = 0.01
    betas: tuple[float, float] = (20.0, 2.0)
    warm_up: float = 0.2  # fraction of the steps

    def beta(self, step: int) -> float:
        """Exponent at a step."""
        start, end = self.betas
        done = (step - self.warm_up * self.steps) / max((1 - self.warm_up) * self.steps, 1)
        return end + (start - end) * max(0.0, 1.0 - done)

    def __call__(self, step: int) -> Tensor | float:
        """What is added to the loss at a step."""
        if step < self.warm_up * self.steps:
            return 0.0
        return self.weight * sum(rounder.regulariser(self.beta(step)) for rounder in self.rounders)


def place_rounding(layers: Iterable[QuantLayer]) -> tuple[AdaRound, ...]:
    """Give every layer whose weights are integer codes rounding variables at its present scale; return them."""
    rounders = []
    for layer in layers:
        if not layer.weight_quantizer.coded:
            continue
        layer.compensation = AdaRound(layer.weight, layer.weight_quantizer)
        rounders.append(layer.compensation)
    return tuple(rounders)


@torch.no_grad()
def harden(layers: Iterable[QuantLayer]) -> None:
    """Make the rounding hard: the weight becomes its quantized value, which its quantizer leaves as it is."""
    for layer in layers:
        if isinstance(rounding := layer.compensation, AdaRound):
            layer.weight = nn.Parameter(rounding.hard(layer.weight_quantizer), requires_grad=False)
            layer.compensation = None
