"""GLF-Q: what the rest of the network makes of each block's error, on a rotated network (2026 preprint, no code).

The network is rewritten first: LayerNorms become RMSNorms, the residual stream and the heads are rotated by Hadamard
matrices, GELUs become ReLUs whose MLPs are reconstructed. Then block after block trains its weights and scales through
straight-through rounding, towards the teacher's output of the block and towards the feature that the teacher's rest of
the network makes of it. From the complete text of the preprint; what that does not say is ours: the learning rates of
weight scales and biases are that of the weights, all rates fall to 0 by a cosine, patch embedding and head are units,
and the head is compared by the KL divergence of its logits.

Swin keeps its LayerNorms and is rotated in its heads only, as there. On detectors the features are those in front of
the predictors of boxes and masks, in at most `regions` regions an image (1000, masks in 128 of them; 100 and 13 under
`quick`); units of the FPN have the local term only, RPN and heads get ranges. Regions are those of the student's RPN,
as there, but from before its first block is quantized. `quick` runs the rest of the network in bfloat16
(`tail_half`), which is faster; a quarter of each batch lost much on training images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from aiqvit.baselines.blockwise import Base, Blockwise, Loss

from aiqvit.bounds import Rate, Whole


@dataclass(frozen=True)
class GLFQ(Blockwise):
    """Rotation, ReLU, straight-through training; local error and error of the feature in front of the head."""

    title: ClassVar[str] = "GLF-Q"
    note: ClassVar[str] = "from the preprint's text; there is no official code."
    fairness: ClassVar[str] = "the image in float, and one range a tensor as here"
    grids: ClassVar[dict[str, tuple[str, ...]]] = {}
    only_in_grids: ClassVar[bool] = False

    steps: Whole = 3000
    objective: Loss = "glf"
    base: Base = "ste"
    scale_rate: Rate = 2e-4
    relu: bool = True
    rotate: bool = field(default=True, kw_only=True)
