"""Bootstrap: how often each sample is drawn, alike for all runs on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from aiqvit.interfaces import UserError

DRAWS = 2000
BLOCK = 2**22  # counts at once: 2,000 draws of 50,000 samples go in 24 blocks


@lru_cache(maxsize=1)
def resamples(samples: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each of N samples is in each of B draws of N with replacement: counts (B, N), each row sums to N.

    They depend on the arguments only: runs on the same samples get the same ones, which pairs them sample by sample.
    Raises `UserError` for no samples or no draws.
    """
    if samples < 1 or draws < 2:
        raise UserError(f"{draws} draws of {samples} samples say nothing: expected at least 2 of at least 1")
    generator, counts = np.random.default_rng(seed), np.empty((draws, samples), np.uint8)
    for row in counts:
        row[:] = np.bincount(generator.integers(samples, size=samples), minlength=samples)
    counts.flags.writeable = False  # it is kept for the next run on as many samples
    return counts


def scores(score: Callable[[np.ndarray], Mapping[str, np.ndarray]], samples: int, draws: int = DRAWS,
           seed: int = 0) -> dict[str, np.ndarray]:
    """Each metric of `score`, which takes weights (B, N) and gives (B,), on all `resamples`; a block at a time."""
    counts, step = resamples(samples, draws, seed), max(1, BLOCK // max(samples, 1))
    found = [score(counts[start : start + step].astype(float)) for start in range(0, draws, step)]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}
