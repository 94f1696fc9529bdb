"""Full precision: the model as it is, what every other method is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from aiqvit.bounds import Whole
from aiqvit.interfaces import Job, Method


@dataclass(frozen=True)
class FullPrecision(Method):
    """Quantizes nothing and needs no calibration images."""

    title = "Full precision"
    images: Whole = 0

    def quantize(self, job: Job) -> nn.Module:
        """Return the model unchanged."""
        return job.model
