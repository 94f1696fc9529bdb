"""FIMA-Q: post-training quantization for vision transformers by Fisher information matrix approximation (CVPR 2025).

Wu et al., https://arxiv.org/abs/2506.11543, code https://github.com/ShiheWang/FIMA-Q. QDrop with a loss of a low-rank
and a diagonal Fisher matrix, renewed 15 times a block (`aiqvit.recon.objectives.fima`). Where this differs: the code
gives activations a scale for each token, which `protocol=paper` or `tokens=on` does and the default does not; ranges
are those of QDrop here, not of a search by layer outputs; 15 refreshes are the paper's, 5 its code's default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aiqvit.baselines.blockwise import Base, Blockwise, Loss

from aiqvit.interfaces import Job


@dataclass(frozen=True)
class FIMAQ(Blockwise):
    """AdaRound with dropping; a Fisher matrix of low rank and a diagonal one."""

    title: ClassVar[str] = "FIMA-Q"
    note: ClassVar[str] = ""
    fairness: ClassVar[str] = ("one static scale a token for activations, a head and token in attention products, the "
                               "image in float")
    grids: ClassVar[dict[str, tuple[str, ...]]] = {}
    only_in_grids: ClassVar[bool] = False

    objective: Loss = "fima"
    base: Base = "adaround_qdrop"

    def official(self, job: Job) -> dict[str, Any]:
        """See `Blockwise`."""
        return {"operands": "head", "tokens": True}
