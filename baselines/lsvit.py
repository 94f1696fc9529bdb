"""LS-ViT: the Hessian of each block by least squares over images (CVPR 2026), code https://github.com/hhh7748/LS-ViT.

Known here from summaries: the loss is theirs (`aiqvit.recon.objectives.least_squares`), all else that of QDrop and of
FIMA-Q's engine, on which their code is built by all evidence. Chosen, since not stated: temperature 20, no dropping
while gradients are taken, the loss divided by its first value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aiqvit.baselines.blockwise import Base, Blockwise, Loss

from aiqvit.interfaces import Job


@dataclass(frozen=True)
class LSViT(Blockwise):
    """AdaRound with dropping; a diagonal and a rank-one Hessian fitted to gradients."""

    title: ClassVar[str] = "LS-ViT"
    note: ClassVar[str] = "reconstructed from summaries of the paper; its repository could not be read."
    fairness: ClassVar[str] = ("one range a tensor by its text, one a head in attention products by FIMA-Q's engine; "
                               "the image in float")
    grids: ClassVar[dict[str, tuple[str, ...]]] = {}
    only_in_grids: ClassVar[bool] = False

    objective: Loss = "ls"
    base: Base = "adaround_qdrop"

    def official(self, job: Job) -> dict[str, Any]:
        """See `Blockwise`."""
        return {"operands": "head"}
