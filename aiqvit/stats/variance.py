"""Variances of a mean over samples and seeds, each with the degrees of freedom that it was estimated with.

Samples and seeds are crossed: all seeds of a method are measured on the same samples. The variance of the mean is
V/N (samples) + S (seeds) + R (what a seed does to single samples). The bootstrap over samples sees V/N and R, the
variance between seeds sees S and R: R is taken off the first, so that it counts once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, t

from aiqvit.stats.measured import Measured

LEAST = 3  # seeds from which others can be told: with two, Student's t makes an interval three times as wide
LIMIT = 0.65  # confidence of the upper limits of variances that the degrees of freedom are of


@dataclass(frozen=True)
class Part:
    """A variance and its degrees of freedom."""

    variance: float
    freedom: float


def of_seeds(runs: Sequence[Measured]) -> Part | None:
    """Of the mean over seeds, from the variance between them; None of fewer than `LEAST`."""
    if len(runs) < LEAST:
        return None
    return Part(float(np.var([r.value for r in runs], ddof=1)) / len(runs), len(runs) - 1)


def of_samples(runs: Sequence[Measured], others: Sequence[Measured] = ()) -> Part | None:
    """Of the mean over `runs`, or of its difference to that over `others`, without what `of_seeds` has of it.

    None where nothing is known of a run's spread over samples.
    """
    groups = [list(group) for group in (runs, others) if group]
    if any(r.draws is None for group in groups for r in group):
        return None
    sizes = [r.samples for group in groups for r in group]
    freedom = min(sizes) - 1 if min(sizes) > 1 else math.inf
    if not paired([r for group in groups for r in group]):  # of seeds, the samples are the same all the same
        return Part(sum(float(np.mean([_spread(r.draws) for r in group])) for group in groups), freedom)
    tables = [np.stack([r.draws for r in group]) for group in groups]  # (seeds, B)
    means = [table.mean(0) for table in tables]  # (B,)
    total = _spread(means[0] - means[1] if others else means[0])
    return Part(max(0.0, total - sum(map(_residual, tables))) * _unbiased(min(sizes)), freedom)


def paired(runs: Sequence[Measured]) -> bool:
    """Whether all have draws of the same resamples."""
    return all(r.paired for r in runs) and len({(len(r.draws), r.samples) for r in runs if r.draws is not None}) == 1


def quantile(parts: Sequence[Part], level: float) -> float:
    """Of Student's t for the sum of the parts: Satterthwaite's degrees of freedom, of upper limits of the variances.

    Those of the variances themselves are too many where the variance of few seeds is small by chance.
    """
    limits = [part.variance * (1 if math.isinf(part.freedom) else part.freedom / chi2.ppf(1 - LIMIT, part.freedom))
              for part in parts]
    below = sum(limit**2 / part.freedom for limit, part in zip(limits, parts, strict=True))
    freedom = sum(limits) ** 2 / below if below > 0 else math.inf
    return float(t.ppf((1 + level) / 2, freedom))


def _residual(table: np.ndarray) -> float:
    """R of a mean over seeds, from draws (seeds, B); 0 where `of_seeds` does not count it."""
    seeds = len(table)
    if seeds < LEAST:
        return 0.0
    return sum(map(_spread, table - table.mean(0))) / (seeds - 1) / seeds


def _unbiased(samples: int) -> float:
    """The bootstrap divides by N, not by N - 1."""
    return samples / (samples - 1) if samples > 1 else 1.0


def _spread(draws: np.ndarray) -> float:
    """Variance of draws, without those where the metric is undefined."""
    known = draws[np.isfinite(draws)]
    return float(np.var(known, ddof=1)) if len(known) > 1 else 0.0
