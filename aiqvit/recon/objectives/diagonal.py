"""The diagonal of each image's own Fisher matrix as weight of its error.

BRECQ (Li et al., ICLR 2021), https://arxiv.org/abs/2102.05426, Eq. 10: errors are weighted by (dL/dz)^2 at the unit's
output z, L the distance of the network's output from that in full precision. BRECQ itself has the network quantized up
to the unit and adds 1 to |dL/dz| (`aiqvit.recon.fisher`); here, as with every objective of this package, all but the
unit is in full precision, and nothing is added.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from aiqvit.recon.activations import Activations
from aiqvit.recon.objective import Objective
from aiqvit.recon.objectives.output_gradients import OutputGradients
from aiqvit.recon.walk import UnitData


class DiagonalFisher(Objective):
    """g^2 (output - target)^2, with g of all calibration images taken before the unit is trained."""

    def start(self, data: UnitData) -> None:
        """See `Objective`."""
        gradients = OutputGradients(data)
        self.importance = Activations(data.targets.store)
        self.place: dict[int, int] = {}  # of each sample among `importance`
        for rows, (_, _, found) in zip(gradients.batches, gradients.passes(), strict=True):
            self.place |= {row: len(self.importance) + i for i, row in enumerate(rows)}
            self.importance.append((found,))

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Objective`; (B, ..., C)."""
        (gradient,), _ = self.importance.gather([self.place[row] for row in rows], output.device)
        return (gradient * (output - target)).square()
