"""Range search: an observer proposes ranges, the quantizer tries each, the least error wins.

The error is that of the tensor itself or, for an observer with `by_output`, that of the product in which it is used: of
an attention product's left operand, or of a Linear's weight, where inputs count as uncorrelated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import gcd
from typing import ClassVar

import torch
from torch import Tensor

Range = tuple[Tensor, Tensor]  # low, high: (G,), one a group that shares its parameters
WEIGHT_FRACTIONS = (0.97, 0.98, 0.99, 0.995, 0.9995, 0.9997, 0.9999, 0.99995, 0.99999)  # I&S-ViT's list


def _largest(x: Tensor, count: int) -> Tensor:
    """The `count` largest of each row in descending order: (G, n) to (G, count).

    One long row is first cut at a threshold that a sample of it suggests, so that only its tail is sorted.
    """
    n, thin = x.shape[1], 64
    if x.shape[0] == 1 and n > 2**16 and count < n // 16:
        sample = x[:, ::thin]
        threshold = sample.topk(min(2 * count // thin + 16, sample.shape[1]), dim=1).values[0, -1]
        tail = x[x >= threshold][None]
        if count <= tail.shape[1] < n // 4:
            x = tail
    return x.topk(count, dim=1).values if count < n // 4 else x.sort(dim=1, descending=True).values[:, :count]


def upper_quantiles(x: Tensor, fractions: tuple[float, ...]) -> Tensor:
    """Quantiles by linear interpolation, as torch.quantile, without its size limit: (G, n) to (len(fractions), G).

    Only the upper tail is sorted, which is what percentile clipping needs.
    """
    n = x.shape[1]
    position = torch.tensor([p * (n - 1) for p in fractions], dtype=torch.float64)
    from_top = (n - 1) - position
    nearer = from_top.floor().long()
    tail = _largest(x, min(int(nearer.max()) + 2, n))  # (G, depth)
    weight = (from_top - nearer).to(x)[:, None]
    upper = tail[:, nearer.to(x.device)].T
    lower = tail[:, (nearer + 1).clamp(max=tail.shape[1] - 1).to(x.device)].T
    return torch.lerp(upper, lower, weight)


class Observer:
    """How a range is found: `ranges` proposes candidates, the least mean |error|^`power` wins.

    A subclass sets or turns into fields what it needs of: `images`, on how many images the search looks (None: on all);
    `by_output`, whether the error is that of the product in which the tensor is used, where that is known; `by_token`,
    whether a token (a pixel, in front of a convolution) counts in units of its own size, so that a few of huge values
    do not set the range of all (`by_output` comes first); `elements`, on how many values of a tensor with one range the
    search looks (0: on all).
    """

    power: ClassVar[float] = 2.0
    images: ClassVar[int | None] = None
    by_output: ClassVar[bool] = False
    by_token: ClassVar[bool] = False
    elements: ClassVar[int] = 0

    def ranges(self, x: Tensor, bits: int) -> Iterator[Range]:
        """Yield candidates (low, high), each (G,), for the rows of x: (G, n), that codes of `bits` bits shall hold."""
        raise TypeError(f"{type(self).__name__} does not implement ranges")


@dataclass(frozen=True)
class MinMax(Observer):
    """The whole range: nothing is clipped."""

    def ranges(self, x: Tensor, bits: int) -> Iterator[Range]:
        """Yield the one range of x: (G, n)."""
        yield x.amin(1), x.amax(1)


@dataclass(frozen=True)
class PercentileMSE(Observer):
    """RepQ-ViT's search: clip both tails at each fraction, keep the least squared error (Li et al. 2023)."""

    fractions: tuple[float, ...] = (0.999, 0.9999, 0.99999)
    by_output: bool = False
    by_token: bool = False

    def ranges(self, x: Tensor, bits: int) -> Iterator[Range]:
        """Yield a range a fraction p: the quantiles 1 - p and p of x: (G, n)."""
        yield from zip(-upper_quantiles(-x, self.fractions), upper_quantiles(x, self.fractions), strict=True)


@dataclass(frozen=True)
class Shrink(Observer):
    """BRECQ's search: the min-max range times 1 - 0.01 i, keep the least |error|^2.4."""

    steps: int = 80
    power: float = 2.4
    elements: int = 0
    by_token: bool = False

    def ranges(self, x: Tensor, bits: int) -> Iterator[Range]:
        """Yield the `steps` shrunk ranges of x: (G, n)."""
        low, high = x.amin(1), x.amax(1)
        for i in range(self.steps):
            yield low * (1 - 0.01 * i), high * (1 - 0.01 * i)


@dataclass(frozen=True)
class RangeAndZero(Observer):
    """QDrop's search: `steps` widths up to min-max, least |error|^2.4; with both signs, each at every zero-point.

    At most `zeros` zero-points are tried (above 4 bits a part of them), on `elements` of the tensor's values.
    """

    steps: int = 100
    zeros: int = 16
    elements: int = 2**14
    power: float = 2.4
    by_token: bool = False

    def ranges(self, x: Tensor, bits: int) -> Iterator[Range]:
        """Yield the ranges of x: (1, n)."""
        low, high, last = x.amin(1), x.amax(1), 2**bits - 1
        for i in range(self.steps, 0, -1):
            part = i / self.steps
            if low >= 0 or high <= 0:
                yield low * part, high * part
                continue
            width = (high - low) * part
            for zero in range(0, last + 1, max((last + 1) // self.zeros, 1)):
                yield -width * zero / last, width * (last - zero) / last


@dataclass(frozen=True)
class FocusGrid(Observer):
    """Intervals for the dynamic focusing quantizer (AIQViT Eq. 15): b1 and b2 on a grid in units of 1 / keys.

    A post-Softmax row of K keys has mean 1/K, so b1 is tried at `lows` / K and b2 on a logarithmic grid from 1/K to 1,
    on the maps of the first `images` images. The search is ours: the paper does not say how the interval starts.
    """

    images: int = 8
    lows: tuple[float, ...] = (0.0, 0.2, 0.4, 0.8)
    steps: int = 40
    by_output: bool = True

    def ranges(self, x: Tensor, bits: int) -> Iterator[Range]:
        """Yield the grid. x: (G, n), rows of it sum to 1 over the keys, so its mean tells their number."""
        mean = x.mean(1)  # (G,), 1 / K
        for low in self.lows:
            for part in torch.linspace(1.0, 0.0, self.steps).tolist():
                if (high := mean**part).gt(1.5 * low * mean).all():
                    yield low * mean, high


PERCENTILES = PercentileMSE()


def thinned(x: Tensor, elements: int) -> Tensor:
    """Every k-th value of `x` (..., C) as (1, n), about `elements` of them.

    k shares no factor with C, so that all channels occur, nor with 2 and 3, of which heads and windows are made.
    """
    every = max(x.numel() // elements, 1)
    while every > 1 and gcd(every, 6 * x.shape[-1]) > 1:
        every += 1
    return x.reshape(1, -1)[:, ::every]


def best_range(
    x: Tensor,
    candidates: Iterator[Range],
    attempt: Callable[[Tensor, Tensor], Tensor],
    error: Callable[[Tensor], Tensor],
) -> Range:
    """The range with the least error a group: `attempt(low, high)` quantizes x, `error` gives (G,)."""
    options = list(candidates)
    if len(options) == 1:
        return options[0]
    low, high = (bound.clone() for bound in options[0])
    least = torch.full_like(low, torch.inf)
    for new_low, new_high in options:
        score = error(attempt(new_low, new_high))
        better = score < least
        low, high = torch.where(better, new_low, low), torch.where(better, new_high, high)
        least = torch.where(better, score, least)
    return low, high
