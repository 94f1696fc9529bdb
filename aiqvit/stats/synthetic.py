"""Synthetic runs whose true metrics are known, to check intervals with.

A sample i is right by method m and seed s where theta_m + a_ms + d_i + c_mi + e_mis > 0: the difficulty d of a sample
is the same for all, c is what a method makes of it, e what a seed does, a is the effect of a seed on all samples. All
are normal, so that the shares of right samples are known. A continuous metric, like KL, is the mean of the exponential.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from aiqvit.stats.measured import Measured, from_sums
from aiqvit.stats.variance import LEAST

DIFFICULTY, METHOD, SEED = 1.0, 0.35, 0.35  # standard deviations of d, c, e
CLASSES = np.array([0.25, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.04, 0.03, 0.03])  # how common they are
OFFSETS = np.linspace(-0.8, 0.8, len(CLASSES))  # and how easy


@dataclass(frozen=True)
class Regime:
    """What pairs of cells are made of."""

    name: str
    samples: int = 1300
    seeds: tuple[int, int] = (1, 1)  # of the first and of the second method
    effect: float = 0.0  # standard deviation of a; methods with the same seeds have half of its variance in common
    theta: tuple[float, float] = (1.0, 0.9)
    metric: str = "counted"  # or "class mean", "continuous"
    shared: bool = True  # both have seeds 0, 1, ...
    apart: float = 1.0  # scales c and e: how many samples tell the two methods apart
    sums: str = ""  # outcomes are lost: "same" samples or "other" samples for the second method


def simulated(regime: Regime, pairs: int, counts: np.ndarray, generator: np.random.Generator) -> list[tuple]:
    """Pairs of cells, each with the two true values."""
    normal, size = generator.standard_normal, (pairs, regime.samples)
    labels = generator.choice(len(CLASSES), size=size, p=CLASSES)  # (P, N)
    easy, common = DIFFICULTY * normal(size), normal((pairs, max(regime.seeds)))
    cells, truths = [], []
    for theta, seeds in zip(regime.theta, regime.seeds, strict=True):
        if regime.sums == "other":
            easy = DIFFICULTY * normal(size)
        share = 0.5 if regime.shared and regime.seeds[0] > 1 else 0.0
        effect = regime.effect * (share**0.5 * common[:, :seeds] + (1 - share) ** 0.5 * normal((pairs, seeds)))
        own = easy + regime.apart * METHOD * normal(size)
        if regime.metric == "class mean":
            own = own + OFFSETS[labels]
        noise = regime.apart * SEED * normal((pairs, seeds, regime.samples))
        latent = theta + effect[..., None] + own[:, None] + noise  # (P, S, N)
        values, drawn = _scored(regime, latent, labels, counts)
        first = 0 if regime.shared or not cells else 100
        cells.append([[_measured(regime, first + s, values[p, s], drawn[:, p, s]) for s in range(seeds)]
                      for p in range(pairs)])
        truths.append(_truth(regime, theta, effect))
    return list(zip(zip(*cells, strict=True), zip(*truths, strict=True), strict=True))


def _scored(regime: Regime, latent: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> tuple:
    """The metric (P, S) and its draws (B, P, S) of samples (P, S, N)."""
    outcome = (np.exp(latent) if regime.metric == "continuous" else 100.0 * (latent > 0)).astype(np.float32)
    weights = np.concatenate([np.ones_like(counts[:1]), counts])  # (1 + B, N); the first row is the metric itself
    if regime.metric == "class mean":
        member = (labels[..., None] == np.arange(len(CLASSES))).astype(np.float32)  # (P, N, K)
        sums = np.tensordot(weights, outcome[..., None] * member[:, None], (1, 2))  # (1 + B, P, S, K)
        rows = np.tensordot(weights, member, (1, 1))[:, :, None]
        with np.errstate(invalid="ignore"):
            table = np.nanmean(sums / rows, -1)  # classes that a draw has none of are left out
    else:
        table = np.tensordot(weights, outcome, (1, 2)) / weights.sum(1)[:, None, None]
    table = table.astype(float)
    return table[0], table[1:]


def _measured(regime: Regime, seed: int, value: float, draws: np.ndarray) -> Measured:
    counted = regime.metric == "counted"
    if regime.sums:
        return Measured(seed, value, from_sums(value, regime.samples, len(draws), seed), False, regime.samples, counted)
    return Measured(seed, value, draws, True, regime.samples, counted)


def _truth(regime: Regime, theta: float, effect: np.ndarray) -> np.ndarray:
    """The true metric of each pair (P,): over all seeds where an interval covers them, otherwise of those there are."""
    covered = effect.shape[1] >= LEAST
    variance = DIFFICULTY**2 + regime.apart**2 * (METHOD**2 + SEED**2) + covered * regime.effect**2
    centre = theta + (0 * effect[:, :1] if covered else effect)  # (P, S)
    if regime.metric == "continuous":
        return np.exp(centre + variance / 2).mean(1)
    if regime.metric == "class mean":
        return 100 * norm.cdf((centre[..., None] + OFFSETS) / math.sqrt(variance)).mean((1, 2))
    return 100 * norm.cdf(centre / math.sqrt(variance)).mean(1)
