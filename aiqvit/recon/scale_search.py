"""Search of scales over a grid of candidates, by the error of what a layer or a unit gives (PTQ4ViT, APQ-ViT)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from aiqvit.quant.quantizers import Quantizer

Metric = Literal["hessian", "mse", "cosine"]


@dataclass(frozen=True)
class Grid:
    """Candidates: `steps` + 1 multiples of the base range, from `start` to `end`."""

    start: float = 0.01
    end: float = 1.2
    steps: int = 100

    def factors(self) -> list[float]:
        """The multiples, ascending."""
        return [self.start + i * (self.end - self.start) / self.steps for i in range(self.steps + 1)]


def output_error(raw: Tensor, output: Tensor, gradient: Tensor, metric: Metric, groups: int = 1) -> Tensor:
    """Error of the columns of each of `groups` groups: (n, C) three times to (groups,).

    "hessian" is the mean over rows of the sum of (gradient * (raw - output))^2, PTQ4ViT's metric; "mse" the same
    without the gradient; "cosine" 1 minus the cosine similarity of all that a group holds.
    """
    if metric == "cosine":
        flat = [t.reshape(len(t), groups, -1).transpose(0, 1).flatten(1) for t in (raw, output)]
        return 1 - cosine_similarity(*flat, dim=1)
    error = (raw - output).square_()
    error = error.mul_(gradient.square()) if metric == "hessian" else error
    return error.mean(0).reshape(groups, -1).sum(1)


@torch.no_grad()
def search_range(take: Callable[[Tensor], object], highs: Iterable[Tensor], error: Callable[[], Tensor]) -> Tensor:
    """Let `take` set each of `highs` (G,) in turn, keep for every group the one with the least `error()` (G,).

    Of equal errors the later one is kept: where the gradient is 0 everywhere, an ascending grid ends with its widest
    range and not with its least, which would clip everything. Returns the chosen highs.
    """
    best = least = None
    for high in highs:
        take(high)
        score = error().to(high)
        score = torch.where(score.isfinite(), score, torch.full_like(score, torch.inf))
        if least is None:
            best, least = high.clone(), score
            continue
        best, least = torch.where(score <= least, high, best), torch.minimum(score, least)
    take(best)
    return best


@torch.no_grad()
def search_by_halving(take: Callable[[Tensor], object], highs: Sequence[Tensor], error: Callable[[], Tensor],
                      stride: int = 1) -> Tensor:
    """As `search_range` for one group, but first on every `stride`-th candidate, then beside the best at half of it...

    Where the error falls and then rises this is the best of all candidates, for few evaluations; with a stride of 1 all
    are tried. `error` has one element. Returns the chosen high. Raises `ValueError` if the stride is below 1.
    """
    if stride < 1:
        raise ValueError(f"stride is {stride}, but must be 1 (all candidates) or more")
    scores: dict[int, float] = {}
    near = range(0, len(highs), stride)
    while True:
        for i in near:
            take(highs[i])
            score = error().item()
            scores[i] = score if isfinite(score) else inf
        best = min(scores, key=lambda i: (scores[i], -i))
        stride //= 2
        if not stride:
            take(highs[best])
            return highs[best]
        near = [i for i in (best - stride, best + stride) if 0 <= i < len(highs) and i not in scores]


def symmetric(quantizer: Quantizer, widen: Callable[[Tensor], Tensor] = lambda high: high) -> Callable[[Tensor], None]:
    """How a quantizer takes the range up to +-high; `widen` turns (G,) into the shape that it needs."""
    return lambda high: quantizer.set_range(-widen(high), widen(high))


def group_maxima(x: Tensor, groups: int = 1) -> Tensor:
    """Largest absolute value of each of `groups` equal blocks of rows: (R, ...) to (groups,); never 0."""
    return x.reshape(groups, -1).abs().amax(1).clamp(min=1e-8)
