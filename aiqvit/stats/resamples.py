"""Bootstrap: how often each sample is drawn, alike for all runs on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from aiqvit.interfaces import UserError

DRAWS = 2000
BLOCK = 2**22  # counts at once: 2,000 draws of 50,000 samples go in 24 blocks


def resamples(samples: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each of N samples is in each of B draws of N with replacement: counts (B, N), each row sums to N.

    They depend on the arguments only: runs on the same samples get the same ones, which pairs them sample by sample.
    Raises `UserError` for no samples or no draws.
    """
    return np.stack(list(_rows(samples, draws, seed)))  # (B, N)


def scores(score: Callable[[np.ndarray], Mapping[str, np.ndarray]], samples: int, draws: int = DRAWS,
           seed: int = 0) -> dict[str, np.ndarray]:
    """Each metric of `score`, which takes weights (B, N) and gives (B,), on all `resamples`; a block at a time."""
    rows, found = _rows(samples, draws, seed), []
    step = max(1, BLOCK // samples)
    for start in range(0, draws, step):
        block = np.stack([next(rows) for _ in range(min(step, draws - start))])
        found.append(score(block.astype(float)))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _rows(samples: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    if samples < 1 or draws < 2:
        raise UserError(f"{draws} draws of {samples} samples say nothing: expected at least 2 of at least 1")
    generator = np.random.default_rng(seed)
    return (np.bincount(generator.integers(samples, size=samples), minlength=samples).astype(np.uint8)
            for _ in range(draws))
