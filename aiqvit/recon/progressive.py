"""AdaLog's fast progressive combining search of pairs (Wu et al., ECCV 2024), and the pairs that it begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aiqvit.quant.observers import upper_quantiles

Score = Callable[[Tensor, Tensor], Tensor]  # error (G,) of a pair, each (G,)


@dataclass(frozen=True)
class Candidates:
    """Pairs to score, each of `first` and `second` (n, G); `spacing` (G,) is that of neighbours among `first`."""

    first: Tensor
    second: Tensor
    spacing: Tensor


@dataclass(frozen=True)
class Progressive:
    """How a search goes on from its first candidates.

    The best `kept` are each tried with `offsets` values of their first member, evenly over the spacing around it, which
    `shrink` then divides; `steps` times. The second member stays. With 0 steps it is a search over the grid.
    """

    kept: int = 16
    offsets: int = 8
    steps: int = 5
    shrink: float = 7.5

    @torch.no_grad()
    def best(self, candidates: Candidates, score: Score) -> tuple[Tensor, Tensor]:
        """The pair of the least error for each of the groups, among all that were tried: (G,) twice."""
        first, second, spacing = candidates.first, candidates.second, candidates.spacing
        offsets = torch.linspace(-0.5, 0.5, self.offsets).to(first)[None, :, None]  # (1, offsets, 1)
        errors = scores(first, second, score)
        for _ in range(self.steps):
            best = errors.topk(min(self.kept, len(errors)), dim=0, largest=False).indices  # (kept, G)
            kept = first.gather(0, best), second.gather(0, best), errors.gather(0, best)
            finer = (kept[0][:, None] + offsets * spacing).clamp(min=1e-12).flatten(0, 1)  # (kept offsets, G)
            same = kept[1].repeat_interleave(self.offsets, 0)
            first, second = torch.cat([kept[0], finer]), torch.cat([kept[1], same])
            errors = torch.cat([kept[2], scores(finer, same, score)])
            spacing = spacing / self.shrink
        best = errors.argmin(0, keepdim=True)  # (1, G)
        return first.gather(0, best)[0], second.gather(0, best)[0]


def scores(first: Tensor, second: Tensor, score: Score) -> Tensor:
    """The errors (n, G) of pairs (n, G); infinite where one is not finite."""
    errors = torch.stack([score(*pair) for pair in zip(first, second, strict=True)])
    return torch.where(errors.isfinite(), errors, torch.inf)


def uniform_pairs(x: Tensor, bits: int, centred: bool = False, count: int = 128) -> Candidates:
    """Scales and zero-points of uniform codes to try for the rows of x: (G, n), `count` pairs.

    Scales go evenly from (q.9 - q.1) / N to (max - min) / N, N = 2^b - 1, where a range always holds 0. Zero-points are
    all 2^b, or with `centred` the half of them around 2^{b-1}. That is how the authors' code does it up to 4 bits; from
    5 bits on it tries the 16 around 2^{b-1} alone, which cuts two fifths of a one-sided tensor off: here the range of
    the codes then slides from the lower end of x to the upper one in 16 steps, over 8 scales.
    """
    last = 2**bits - 1
    low, high = x.amin(1).clamp(max=0), x.amax(1).clamp(min=0)
    lower, upper = -upper_quantiles(-x, (0.9,))[0].clamp(min=0), upper_quantiles(x, (0.9,))[0].clamp(min=0)
    zeros = 16 if bits > 4 else 2 ** (bits - 1) if centred else 2**bits
    steps = max(count // zeros, 2)
    least, most = ((b - a).clamp(min=1e-9) / last for a, b in ((lower, upper), (low, high)))
    part = torch.linspace(0, 1, steps).to(x)[:, None]
    scale = (least + part * (most - least)).repeat_interleave(zeros, 0)  # (steps zeros, G)
    if bits > 4:
        slide = torch.linspace(0, 1, zeros).to(x).repeat(steps)[:, None]
        zero = (-(low + slide * (high - low - last * scale)) / scale).round().clamp(0, last)
    else:
        zero = (torch.arange(zeros).to(x) + (2**bits - zeros) // 2).repeat(steps)[:, None].expand_as(scale)
    return Candidates(scale, zero, (most - least) / (steps - 1))
