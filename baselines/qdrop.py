"""QDrop: randomly dropping quantization for extremely low-bit post-training quantization (Wei et al., ICLR 2022).

As BRECQ, but rounding and activation scales are trained at once, half of the input elements of a unit come from the
full-precision model, and half of the elements of every activation inside it are not quantized, drawn anew each step.
Published for CNNs; ported to transformer blocks as in later papers. As in the ports, which calibrate by the layer's
output, the range of post-Softmax activations is searched by the error of the attention product; the code, for CNNs,
knows only the tensor's own error (`softmax=own`). The ranges of post-LayerNorm activations are found channel by channel
and reparameterized to one a tensor, as in the best ports; the code finds one a tensor at once (`reparam=off`), which
lost more on training images (`results/tuning.md`). These ports also give the operands of attention products a range a
head (`operands=head`, which `softmax` and `ranges` do not reach) and search the ranges of weights by the layer's output
(`weights=output`); the defaults are those of the code, one range a tensor as with every method here.
The authors' gradient scaling of LSQ changes nothing under Adam and is left out. The loss is divided by its first value,
as the ViT ports do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, Literal

from aiqvit.baselines.brecq import ported
from torch import nn

from aiqvit.bounds import Count, Number, Rate, Share, Tries, Whole
from aiqvit.interfaces import Job, Trained
from aiqvit.quant.observers import RangeAndZero, Shrink
from aiqvit.quant.site import RoleScheme
from aiqvit.recon.loop import Schedule
from aiqvit.recon.objective import objective
from aiqvit.recon.rounded import RoundingRates, train_dropping
from aiqvit.recon.walk import UnitData, calibrate_ranges, gives_logits, is_head, reconstruct_model


@dataclass(frozen=True)
class QDrop(Trained):
    """AdaRound and activation scales together, with quantization dropped at random."""

    title: ClassVar[str] = "QDrop"
    version: ClassVar[int] = 2
    note: ClassVar[str] = "CNN method; ported to transformer blocks as in later papers."
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"images": 512, "batch": 8, "steps": 320, "rounding_rate": 0.2, "level_rate": 0.3, "penalty": 0.1,
                  "loss": "token", "head": False, "init_images": 64},
        "smoke": {"images": 8, "batch": 4, "steps": 3, "init_images": 4, "elements": 2**12, "widths": 20},
    }

    images: Count = 1024
    batch: Count = 32
    steps: Whole = 20000  # a unit
    rounding_rate: Rate = 1e-3  # Adam on alpha
    scale_rate: Rate = 4e-5  # Adam on activation scales
    level_rate: Rate = 0.0  # the same in levels by which an end of the range moves, for short schedules; 0: scale_rate
    drop: Share = 0.5  # share of elements, of inputs of a unit and inside it, not quantized while training
    penalty: Number = 0.01  # lambda of the rounding regulariser
    warm_up: Share = 0.2  # fraction of the steps without it
    loss: Literal["mse", "relative", "tokenwise", "token"] = "mse"
    ranges: Literal["own", "token"] = "own"  # error that sets ranges of activations; token: each in its own units
    softmax: Literal["output", "own"] = "output"  # error by which the range of post-Softmax activations is searched
    operands: Literal["tensor", "head"] = "tensor"  # granularity of the attention products' operands
    weights: Literal["own", "output"] = "own"  # error that sets ranges of weights; output: that of the layer's output
    reparam: bool = True  # ranges of post-LayerNorm activations found by channel, then reparameterized
    head: bool = True  # reconstruct a head that is one layer too; logits are compared by their KL divergence
    put_back: bool = True  # bring a unit back as it was where its loss rose
    init_images: Count = 256  # images that set the ranges
    elements: Whole = 2**14  # values of an activation tensor on which its range is searched
    widths: Tries = 100  # ranges tried, where both signs occur with every zero-point
    protocol: Literal["unified", "paper"] = "unified"  # paper: image not quantized, first and last layer 8 bit
    memory_gb: Number = 4.0

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: losses, seconds."""
        def reconstruct_unit(data: UnitData) -> dict | None:
            calibrate_ranges(data, self.init_images, self.reparam)
            if is_head(data.unit) and not self.head:
                return None
            return self.reconstruct(data, job)

        return reconstruct_model(job, self.scheme(job), reconstruct_unit, init_images=self.init_images,
                                 memory_gb=self.memory_gb)

    def scheme(self, job: Job) -> RoleScheme:
        """Role -> quantizer."""
        search = RangeAndZero(self.widths, elements=self.elements, by_token=self.ranges == "token")
        return ported(self, job, search, Shrink(elements=self.elements))

    def reconstruct(self, data: UnitData, job: Job) -> dict:
        """Train one unit; return its log entry."""
        began = time.perf_counter()
        goal = objective("kl" if gives_logits(data.unit) else self.loss)
        rates = RoundingRates(self.rounding_rate, self.scale_rate, self.level_rate, self.penalty, self.warm_up)
        losses = train_dropping(data, Schedule(self.steps, self.batch, goal, mix=self.drop), rates, self.drop, job,
                                self.put_back)
        return {**losses, "seconds": round(time.perf_counter() - began, 2)}
