"""Curriculum of AIQViT (Eqs. 16-17): easy samples first, harder ones as training goes on."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from aiqvit.recon.loop import all_norms, uniform_sampler
from aiqvit.recon.walk import UnitData


def pace(step: int, steps: int, start: float = 0.5) -> float:
    """Eq. 17: the fraction of samples in use, linear from `start` at step 0 to 1 at the last."""
    return min(1.0, start + (1.0 - start) * step / steps)


class Curriculum:
    """Batches of the easiest fraction `pace` of the samples; hardness is the Frobenius error of the present unit.

    Samples are ranked again `refresh` times, evenly over the steps.
    """

    def __init__(self, data: UnitData, steps: int, batch: int, generator: torch.Generator, start: float = 0.5,
                 refresh: int = 10) -> None:
        self.data, self.steps, self.batch, self.generator = data, steps, batch, generator
        self.start, self.every = start, max(steps // max(refresh, 1), 1)
        self.order = torch.arange(len(data.inputs))
        self._draw: Callable[[int], list[int]] = lambda step: []
        self._size = 0

    def __call__(self, step: int) -> list[int]:
        """Indices of the batch of this step."""
        rerank = step % self.every == 0
        if rerank:
            self.order = all_norms(self.data).argsort()  # easiest first
        size = math.ceil(pace(step, self.steps, self.start) * len(self.order))
        if rerank or size != self._size:
            self._size = size
            self._draw = uniform_sampler(self.order[:size], self.batch, self.generator)
        return self._draw(step)
