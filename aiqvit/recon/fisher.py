"""BRECQ's Fisher weighting of the error, as an objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aiqvit.interfaces import Job
from aiqvit.recon.activations import Activations
from aiqvit.recon.gradients import output_importance
from aiqvit.recon.objective import Objective
from aiqvit.recon.walk import UnitData


class Fisher(Objective):
    """Squared error times |dL/dz|^2 at the unit's output z, L the distance of the model's output from full precision.

    The gradient is that of the model as far as it is quantized when the unit's turn comes; `damping` is added to its
    size, 1 in the authors' code.
    """

    def __init__(self, job: Job, damping: float) -> None:
        """`job.model` is still in full precision here; its outputs are kept."""
        self.job, self.damping = job, damping
        with torch.no_grad():
            self.references: list[Any] = [job.forward(job.model, batch) for batch in job.calibration]
        self.importance: Activations | None = None

    def start(self, data: UnitData) -> None:
        """See `Objective`."""
        self.importance = output_importance(self.job.model, data.name, self.job.calibration, self.job.forward,
                                            self.references, self.damping)

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Objective`; (B, ..., C)."""
        (root,), _ = self.importance.gather(rows, output.device)
        return (output * root - target * root).square()
