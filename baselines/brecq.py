"""BRECQ: pushing the limit of post-training quantization by block reconstruction (Li et al., ICLR 2021), for ViTs.

The authors' code knows CNNs only; as in later ViT papers the unit is a transformer block, and both attention products
are quantized per tensor. Where paper, code and ports differ:

- The paper and its code train rounding with activations in full precision, then activation scales (`joint=off`); the
  ports behind the published ViT numbers train both at once, which is the default: rounding that never sees quantized
  activations loses far more on a ViT (`results/tuning.md`).
- Joint training starts from what a unit gets behind its quantized predecessors, as the paper's first phase does; the
  ports take full-precision inputs (`inputs=fp`).
- The range of post-Softmax activations is searched by the error of the attention product, as in the ports, which
  calibrate by the layer's output; the code, for CNNs, knows only the tensor's own error (`softmax=own`).
- The ranges of post-LayerNorm activations are found channel by channel and reparameterized to one a tensor, as in the
  best ports and in RepQ-ViT; the code finds one a tensor at once (`reparam=off`).
- These ports also give query, key, value and post-Softmax maps a range a head (`operands=head`, which `softmax` and
  `ranges` do not reach) and search the ranges of weights by the layer's output (`weights=output`). By default an
  activation has one range a tensor, as with every method here, and a weight that of its own error, as in the code; at
  3 bits one range a tensor costs accuracy (`results/tuning.md`).
- The code's default loss is the squared error, not the paper's Fisher weighting (`loss=fisher`); `damping` is the 1
  that the code adds to |gradient|, which nearly undoes it.

The loss is divided by its first value, as the ViT ports do, so `penalty` means the same for every unit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from aiqvit.interfaces import Job, Method
from aiqvit.quant.observers import WEIGHT_FRACTIONS, FocusGrid, PercentileMSE, Shrink
from aiqvit.quant.quantizers import Float, Uniform
from aiqvit.quant.surgery import set_mode
from aiqvit.recon.gradients import output_importance
from aiqvit.recon.loop import Schedule
from aiqvit.recon.rounded import RoundingRates, train_rounding
from aiqvit.recon.walk import UnitData, is_head, observe_ranges, repair

BY_PRODUCT = FocusGrid(lows=(0.0,), steps=99)  # ranges from 0 up to 1 / keys .. 1, by the error of the product
OPERANDS = PercentileMSE((0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999), by_output=True)  # ranges a head
WEIGHTS = PercentileMSE(WEIGHT_FRACTIONS, by_output=True)


@dataclass(frozen=True)
class BRECQ(Method):
    """AdaRound by blocks, then learned activation scales; L2.4 ranges; everything per tensor but weights."""

    title: ClassVar[str] = "BRECQ"
    note: ClassVar[str] = "CNN method; ported to transformer blocks as in later papers."
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"images": 512, "batch": 8, "steps": 320, "scale_steps": 80, "rounding_rate": 0.2, "level_rate": 0.3,
                  "penalty": 0.1, "loss": "token", "ranges": "token"},
        "smoke": {"images": 8, "batch": 4, "steps": 3, "scale_steps": 2, "init_images": 4, "elements": 2**12},
    }

    images: int = 1024
    batch: int = 32
    steps: int = 20000  # rounding, a unit
    scale_steps: int = 5000  # activation scales alone, a unit, after rounding; joint training has none
    rounding_rate: float = 1e-3  # Adam on alpha
    scale_rate: float = 4e-5  # Adam on activation scales in joint training
    second_rate: float = 4e-4  # the same in the second phase
    level_rate: float = 0.0  # the same in levels by which an end of the range moves, for short schedules; 0: scale_rate
    penalty: float = 0.01  # lambda of the rounding regulariser
    warm_up: float = 0.2  # fraction of the steps without it
    joint: bool = True  # rounding and activation scales at once
    inputs: Literal["quantized", "fp"] = "quantized"  # of joint training
    softmax: Literal["output", "own"] = "output"  # error by which the range of post-Softmax activations is searched
    operands: Literal["tensor", "head"] = "tensor"  # granularity of the attention products' operands
    weights: Literal["own", "output"] = "own"  # error that sets ranges of weights; output: that of the layer's output
    reparam: bool = True  # ranges of post-LayerNorm activations found by channel, then reparameterized
    loss: Literal["mse", "relative", "tokenwise", "token", "fisher"] = "mse"
    ranges: Literal["own", "token"] = "own"  # error that sets ranges of activations; token: each in its own units
    damping: float = 1.0  # added to |gradient| by fisher
    head: bool = True  # reconstruct a head that is one layer too
    init_images: int = 64  # images that set the ranges
    elements: int = 2**18  # values of an activation tensor on which its range is searched
    protocol: Literal["unified", "paper"] = "unified"  # paper: image not quantized, first and last layer 8 bit
    memory_gb: float = 4.0

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: losses, seconds."""
        generator, references = job.generator, []
        if self.loss == "fisher":
            with torch.no_grad():
                references = [job.forward(job.model, batch) for batch in job.calibration]

        def mend(data: UnitData) -> dict | None:
            observe_ranges(data, self.init_images, self.reparam)
            if is_head(data.unit) and not self.head:
                return None
            if references:
                data.importance = output_importance(job.model, data.name, job.calibration, job.forward, references,
                                                    self.damping)
            return self.reconstruct(data, generator, job)

        return repair(job, self.scheme(job), mend, init_images=self.init_images, memory_gb=self.memory_gb)

    def scheme(self, job: Job) -> dict:
        """Role -> quantizer."""
        w, a = job.bits.weight, job.bits.activation
        search = Shrink(elements=self.elements, by_token=self.ranges == "token")
        scheme = {
            "weight": lambda: Uniform(w, 0, WEIGHTS if self.weights == "output" else Shrink()),
            "activation": lambda: Uniform(a, observer=search),
            "image": lambda: Uniform(8, observer=search),
            "post_softmax": lambda: Uniform(a, observer=BY_PRODUCT if self.softmax == "output" else search),
        }
        scheme |= by_head(job) if self.operands == "head" else {}
        scheme |= by_channel(job) if self.reparam else {}
        return scheme | (eight_bit_ends(search) if self.protocol == "paper" else {})

    def reconstruct(self, data: UnitData, generator: torch.Generator, job: Job) -> dict:
        """Train one unit; return its log entry."""
        began, loss = time.perf_counter(), "mse" if self.loss == "fisher" else self.loss
        if self.joint:
            losses = train_rounding(data, Schedule(self.steps, self.batch, loss, mix=float(self.inputs == "fp")),
                                    self.rates(self.rounding_rate, self.scale_rate), generator, job.progress)
        else:
            set_mode(data.unit, "off", weights=False)
            losses = train_rounding(data, Schedule(self.steps, self.batch, loss),
                                    self.rates(self.rounding_rate), generator, job.progress)
            set_mode(data.unit, "on", weights=False)
            data.importance = None  # of the rounding alone
            losses["scales"] = train_rounding(data, Schedule(self.scale_steps, self.batch, "l2.4", mix=1.0),
                                              self.rates(0.0, self.second_rate), generator, job.progress)
        return {**losses, "seconds": round(time.perf_counter() - began, 2)}

    def rates(self, rounding: float, scale: float = 0.0) -> RoundingRates:
        """The learning rates of a phase."""
        return RoundingRates(rounding, scale, self.level_rate * bool(scale), self.penalty, self.warm_up)


def by_head(job: Job) -> dict:
    """The ports' attention operands: a range a head, set by the error of the product where it can be told.

    Vector attention, on points, has no heads: nothing changes there.
    """
    if not any(hasattr(module, "num_heads") for module in job.model.modules()):
        return {}
    scheme = dict.fromkeys(("query", "key", "value"), lambda: Uniform(job.bits.activation, 1, OPERANDS))
    return scheme | {"post_softmax": lambda: Uniform(job.bits.activation, 1, BY_PRODUCT)}


def by_channel(job: Job) -> dict:
    """The ports' post-LayerNorm activations: a range a channel, to be reparameterized."""
    search = PercentileMSE(WEIGHT_FRACTIONS)
    return {"post_layernorm": lambda: Uniform(job.bits.activation, -1, search, include_zero=False)}


def eight_bit_ends(search: Shrink) -> dict:
    """The CNN codes' convention: image in full precision, weights of first and last layer and the last input 8 bit."""
    return {
        "image": Float,
        "head": lambda: Uniform(8, observer=search),
        "weight:patch_embed": lambda: Uniform(8, 0, Shrink()),
        "weight:head": lambda: Uniform(8, 0, Shrink()),
    }
