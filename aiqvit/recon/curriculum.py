"""Curriculum of AIQViT (Eqs. 16-17): easy samples first, harder ones as training goes on."""

from __future__ import annotations

import math
from functools import partial

import torch

from aiqvit.recon.loop import Schedule, passes, sample_losses
from aiqvit.recon.walk import UnitData


def pace(step: int, steps: int, start: float = 0.5, grow: float = 1.0) -> float:
    """Eq. 17: the fraction of samples in use, linear from `start` at step 0 to 1 after the share `grow` of the steps.

    The survey that the paper takes its pacing from grows for a number of steps of its own; the paper, for all of them.
    """
    return min(1.0, start + (1.0 - start) * step / max(grow * steps, 1))


class Curriculum:
    """Batches of the easiest fraction `pace` of the samples; hardness is a sample's loss in the present unit.

    Samples are ranked again `refresh` times, evenly over the steps. Batches are drawn by random passes without
    replacement; a sample that comes into use in the middle of a pass takes part from the next one on.
    """

    def __init__(self, data: UnitData, schedule: Schedule, generator: torch.Generator, start: float = 0.5,
                 refresh: int = 10, grow: float = 1.0) -> None:
        self.data, self.objective, self.every = data, schedule.objective, max(schedule.steps // max(refresh, 1), 1)
        self.pace = partial(pace, steps=schedule.steps, start=start, grow=grow)
        self.order = torch.arange(len(data.inputs))
        self._draw = passes(self.pool, schedule.batch, generator)

    def __call__(self, step: int) -> list[int]:
        """Indices of the batch of this step."""
        if step % self.every == 0:
            self.order = sample_losses(self.data, self.objective).argsort()  # easiest first
        return self._draw(step)

    def pool(self, step: int) -> torch.Tensor:
        """Indices of the samples in use at this step."""
        return self.order[:math.ceil(self.pace(step) * len(self.order))]
