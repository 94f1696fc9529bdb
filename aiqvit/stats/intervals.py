"""Confidence intervals of metrics and of their differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aiqvit.stats.measured import Measured
from aiqvit.stats.variance import Part, of_samples, of_seeds, paired, quantile

LEVEL = 0.95
NOTHING = "nothing"


@dataclass(frozen=True)
class Interval:
    """A number with its confidence interval; `low` and `high` are NaN where nothing can be said."""

    value: float
    low: float
    high: float
    basis: str  # what it covers: "samples", "sums" (samples whose outcomes are lost), "seeds", both, or "nothing"


def of_metric(runs: Sequence[Measured], level: float = LEVEL) -> Interval:
    """Of the mean over the runs of a cell, one a seed; runs where the metric is undefined are left out.

    A percentage of samples has a score interval (Wilson), which is never of width zero nor beyond 0 and 100.
    """
    runs = _defined(runs)
    value = float(np.mean([r.value for r in runs])) if runs else math.nan
    samples, seeds = of_samples(runs) if runs else None, of_seeds(runs)
    basis = _basis(samples and ("samples" if paired(runs) else "sums"), seeds and "seeds")
    parts = [part for part in (samples, seeds) if part]
    if parts and samples and all(r.counted and r.samples for r in runs):
        return Interval(value, *_score(value, parts, min(r.samples for r in runs), level), basis)
    found = _around(value, parts, level, basis)
    return replace(found, low=float(np.maximum(0, found.low)))  # no metric is negative


def of_difference(ours: Sequence[Measured], theirs: Sequence[Measured], level: float = LEVEL) -> Interval:
    """Of the mean of `ours` minus that of `theirs`, one run a seed.

    Paired over samples where all draws are of the same resamples, over seeds where both have the same several seeds.
    """
    ours, theirs = _defined(ours), _defined(theirs)
    if not (ours and theirs):
        return Interval(math.nan, math.nan, math.nan, NOTHING)
    value = float(np.mean([r.value for r in ours]) - np.mean([r.value for r in theirs]))
    together, both = paired([*ours, *theirs]), _seeds(ours) == _seeds(theirs)
    if len(ours) > 1 and both:
        pairs = _differences(ours, theirs, together)
        samples = of_samples(pairs) if together else of_samples(ours, theirs)
        seeds = [of_seeds(pairs)]
        whose = "seeds" if seeds[0] else ""
    else:
        samples, seeds = of_samples(ours, theirs), [of_seeds(ours), of_seeds(theirs)]
        whose = {(True, True): "seeds", (True, False): "seeds of the first",
                 (False, True): "seeds of the second"}.get((bool(seeds[0]), bool(seeds[1])), "")
    basis, centre = _basis(samples and ("samples" if together else "sums"), whose), value
    size = min(r.samples for r in (*ours, *theirs))
    if samples and size and all(r.counted for r in (*ours, *theirs)):
        centre, samples = _with_two_more(value, samples, size)
    elif samples and size > 1 and together and not any(np.any(a.draws != b.draws) for a in ours for b in theirs):
        return Interval(value, value, value, basis)  # no sample tells them apart
    found = _around(centre, [part for part in (samples, *seeds) if part], level, basis)
    if math.isnan(found.low):
        return found
    low, high = min(found.low, value), max(found.high, value)
    if all(r.counted for r in (*ours, *theirs)):
        low, high = max(low, -100.0), min(high, 100.0)
    return Interval(value, low, high, found.basis)


def distinguishable(difference: Interval) -> bool:
    """Whether the interval of a difference excludes 0; not where nothing can be said."""
    return difference.low > 0 or difference.high < 0


def _around(value: float, parts: Sequence[Part], level: float, basis: str) -> Interval:
    variance = sum(part.variance for part in parts)
    if not (math.isfinite(value) and variance > 0):
        return Interval(value, math.nan, math.nan, NOTHING)
    half = quantile(parts, level) * math.sqrt(variance)
    return Interval(value, value - half, value + half, basis)


def _with_two_more(value: float, part: Part, samples: int) -> tuple[float, Part]:
    """A difference of percentages and its variance over N samples, with half a sample more of each of the four outcomes
    that two runs have (Agresti and Min 2005): where few samples tell runs apart, as many again could have."""
    shrunk = samples / (samples + 2)
    return value * shrunk, replace(part, variance=part.variance * shrunk**2 + (100 / (samples + 2)) ** 2)


def _score(value: float, parts: Sequence[Part], samples: int, level: float) -> tuple[float, float]:
    """Wilson's interval in percent, for as many independent samples as have the variance of the parts together."""
    share, variance = value / 100, sum(part.variance for part in parts) / 100**2
    size = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else samples
    q = quantile(parts, level) ** 2 / size
    centre, half = share + q / 2, math.sqrt(q * (share * (1 - share) + q / 4))
    return 100 * max(0.0, (centre - half) / (1 + q)), 100 * min(1.0, (centre + half) / (1 + q))


def _differences(ours: Sequence[Measured], theirs: Sequence[Measured], together: bool) -> list[Measured]:
    other = {r.seed: r for r in theirs}
    return [Measured(r.seed, r.value - other[r.seed].value, r.draws - other[r.seed].draws if together else None,
                     together, r.samples) for r in ours]


def _seeds(runs: Sequence[Measured]) -> list[int]:
    return sorted(r.seed for r in runs)


def _defined(runs: Sequence[Measured]) -> list[Measured]:
    return [r for r in runs if math.isfinite(r.value)]


def _basis(*parts: str | Part | None) -> str:
    return " and ".join(part for part in parts if isinstance(part, str) and part) or NOTHING
