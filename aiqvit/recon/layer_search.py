"""Ranges of a layer's or product's two operands, each in turn by the error of the output, as the AdaLog family does.

Everything is a product y = L R^T, L (..., N, K) and R (..., M, K): of a layer L are the inputs and R the weight, of
attention Q and K, or A and V^T. Both stand for what flows in full precision, so modules are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aiqvit.quant.quantizers import AdaptiveLog, Quantizer
from aiqvit.quant.quantizers.adaptive_log import DENOMINATOR, NUMERATORS
from aiqvit.recon.progressive import Candidates, Progressive, scores, uniform_pairs

Errors = Callable[[Tensor], Tensor]  # quantized values (..., N, K) to their squared errors, (..., N, K) or (..., N, 1)


@dataclass
class Operand:
    """A quantizer with the values on which it is searched."""

    quantizer: Quantizer
    values: Tensor  # (..., N, K), K what the product sums over
    centred: bool = False  # zero-points: see `uniform_pairs`

    def quantized(self) -> Tensor:
        """The values as they are quantized now."""
        return self.quantizer.fake(self.values)

    def own_errors(self, quantized: Tensor) -> Tensor:
        """Squared errors of the values themselves."""
        return (quantized - self.values).square()

    def take(self, first: Tensor, second: Tensor) -> None:
        """Set the pair (G,) twice: scale and zero-point, or scale and numerator of the base."""
        q = self.quantizer
        second = q.broadcast(second, self.values)
        q.scale.data = q.broadcast(first, self.values)
        if isinstance(q, AdaptiveLog):
            q.numerator = second
        else:
            q.zero = second


class OutputError:
    """|L' R'^T - L R^T|^2 as a function of L' alone, a row: (..., N, K) to (..., N, 1).

    With E = L' - L and S = L (R' - R)^T it is |E R'^T + S|^2. Where K is less than the M columns, it is computed as
    E (R'^T R') E^T + 2 E R'^T S^T + |S|^2, in K steps a row instead of M, with no difference of large numbers.
    """

    def __init__(self, left: Tensor, right: Tensor, quantized: Tensor) -> None:
        self.left, self.right = left, quantized
        self.rest = left @ (quantized - right).transpose(-2, -1)  # S, (..., N, M)
        self.short = left.shape[-1] < right.shape[-2]
        if self.short:
            self.gram = quantized.transpose(-2, -1) @ quantized  # (..., K, K)
            self.mixed = 2 * self.rest @ quantized  # (..., N, K)
            self.constant = self.rest.square().sum(-1, keepdim=True)

    def __call__(self, quantized: Tensor) -> Tensor:
        """The errors of these values."""
        off = quantized - self.left
        if self.short:
            return (off @ self.gram).add_(self.mixed).mul_(off).sum(-1, keepdim=True).add_(self.constant)
        return (off @ self.right.transpose(-2, -1)).add_(self.rest).square_().sum(-1, keepdim=True)


@dataclass(frozen=True)
class LayerSearch:
    """Each operand by its own error, then `rounds` times by the error of the output with the other one quantized."""

    rounds: int = 3
    uniform: Progressive = Progressive()
    logarithmic: Progressive = Progressive(kept=32, offsets=4, shrink=3.5)
    numerators: tuple[int, ...] = field(default=tuple(NUMERATORS))  # q of the adaptive logarithm

    @torch.no_grad()
    def __call__(self, first: Operand, second: Operand) -> None:
        """Search both, `first` before `second` in every round."""
        pairs = [(a, b) for a, b in ((first, second), (second, first)) if a.quantizer.coded]
        for operand, _ in pairs:
            start(operand)
            self.search(operand, operand.own_errors)
        for _ in range(self.rounds):
            for operand, other in pairs:
                self.search(operand, OutputError(operand.values, other.values, other.quantized()))

    @torch.no_grad()
    def search(self, operand: Operand, errors: Errors) -> None:
        """Set the pair of the least error."""
        q = operand.quantizer

        def score(first: Tensor, second: Tensor) -> Tensor:
            operand.take(first, second)
            return q.grouped(errors(q.fake(operand.values))).sum(1)

        if not isinstance(q, AdaptiveLog):
            found = uniform_pairs(q.grouped(operand.values), q.bits, operand.centred)
            operand.take(*self.uniform.best(found, score))
        elif q.shifted:
            operand.take(*self.logarithmic.best(self.bases_and_scales(operand, score), score))
        else:
            operand.take(*Progressive(steps=0).best(self.bases(operand), score))

    def bases(self, operand: Operand) -> Candidates:
        """Every base at the present scale."""
        scale = operand.quantizer.scale.detach().reshape(1, 1)
        numerators = torch.tensor(self.numerators).to(scale)[:, None]  # (n, 1)
        return Candidates(scale.expand_as(numerators), numerators, torch.zeros_like(scale[0]))

    def bases_and_scales(self, operand: Operand, score: Callable) -> Candidates:
        """The 8 best bases at the present scale, each at 16 scales from the q.9 of positive values to the largest."""
        found = self.bases(operand)
        best = scores(found.first, found.second, score).topk(8, dim=0, largest=False).indices
        numerators = found.second.gather(0, best)  # (8, 1)
        positive = operand.values[operand.values > 0]
        least = positive.flatten().kthvalue(max(round(0.9 * len(positive)), 1)).values if len(positive) else 0
        scales = (torch.linspace(0, 1, 16).to(numerators) * (operand.values.max() - least) + least)[:, None]
        scales = (scales + operand.quantizer.shift).clamp(min=1e-8)
        return Candidates(scales.repeat(8, 1), numerators.repeat_interleave(16, 0), scales[1] - scales[0])


def start(operand: Operand) -> None:
    """Where a search begins that does not set everything: base 2, a scale that holds all that occurs."""
    q = operand.quantizer
    if isinstance(q, AdaptiveLog):
        high = operand.values.max() + q.shift if q.shifted else torch.ones(())
        operand.take(high.clamp(min=1e-8).reshape(1), torch.full((1,), float(DENOMINATOR)).to(operand.values))
