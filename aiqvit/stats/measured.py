"""What is known of one metric of one run: its value, and its spread over samples."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from aiqvit.stats.resamples import DRAWS


@dataclass(frozen=True)
class Measured:
    """One metric of one run."""

    seed: int
    value: float  # NaN where it is undefined
    draws: np.ndarray | None = None  # (B,) the metric on each resample; None where its spread over samples is unknown
    paired: bool = False  # draws are of `resamples`; otherwise simulated from the sums, independent of all other runs
    samples: int = 0  # N, 0 where it is unknown
    counted: bool = False  # the value is the percentage of samples with something


def measured(seed: int, metrics: Mapping[str, float], counted: Collection[str], samples: int,
             scores: Mapping[str, np.ndarray] | None = None, draws: int = DRAWS) -> dict[str, Measured]:
    """Every metric of a run of N samples. `scores`, metric -> (B,), are those of its outcomes, where it has them.

    Without, `counted` metrics get draws from their sums; nothing is known of the spread of the others.
    """
    found = {}
    for name, value in metrics.items():
        known = (scores or {}).get(name)
        usable = known is not None and math.isfinite(value)
        drawn = known if usable else from_sums(value, samples, draws, seed) if name in counted else None
        found[name] = Measured(seed, value, drawn, usable, samples, name in counted)
    return found


def from_sums(value: float, samples: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray | None:
    """Percentages (B,) that may be true where `value` percent of N samples had something; None where it is undefined.

    Of the posterior of a binomial with Jeffreys' prior, which has a width at 0 and at 100 too.
    """
    if not samples or not 0 <= value <= 100:
        return None
    had = samples * value / 100
    return 100 * np.random.default_rng(seed).beta(had + 0.5, samples - had + 0.5, draws)  # (B,)
