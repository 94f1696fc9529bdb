"""APHQ-ViT: post-training quantization with average perturbation Hessian based reconstruction (CVPR 2025).

Wu et al., https://arxiv.org/abs/2504.02508, code https://github.com/GoatWu/APHQ-ViT. MLP reconstruction first (GELU
becomes ReLU, errors weighted by the average perturbation map), then QDrop with the map as weight of the block's error
(`aiqvit.recon.objectives.perturbation`). Where this differs: attention operands have one range a tensor, in the code
one a head, and at 2 bits one a token (`protocol=paper` has both); ranges are those of QDrop here, not of a search by
layer outputs; the map is that of random directions, as the published one is 0 behind LayerNorms but for rounding (see
there); the clamping quantile is the paper's .99 at every bit width (the code takes .98 at 4 and 2 bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from aiqvit.baselines.blockwise import Base, Blockwise, Loss

from aiqvit.interfaces import Job


@dataclass(frozen=True)
class APHQViT(Blockwise):
    """ReLU; AdaRound with dropping; squared error weighted by the average perturbation map."""

    title: ClassVar[str] = "APHQ-ViT"
    note: ClassVar[str] = ""
    fairness: ClassVar[str] = ("one range a head in attention products, at 2 bits one a token for activations, the "
                               "image in float")
    grids: ClassVar[dict[str, tuple[str, ...]]] = {}
    only_in_grids: ClassVar[bool] = False

    objective: Loss = "aph"
    base: Base = "adaround_qdrop"
    relu: bool = True
    mlp_loss: Literal["plain", "hessian"] = "hessian"

    def official(self, job: Job) -> dict[str, Any]:
        """See `Blockwise`."""
        return {"operands": "head", "tokens": job.bits.activation == 2}
