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
from typing import Any, ClassVar, Literal

from torch import nn

from aiqvit.bounds import Count, Number, Rate, Share, Whole
from aiqvit.interfaces import Job, Trained
from aiqvit.quant.observers import WEIGHT_FRACTIONS, FocusGrid, Observer, PercentileMSE, Shrink
from aiqvit.quant.quantizers import Float, Uniform
from aiqvit.quant.site import QuantSpec, RoleScheme, by_role, spec
from aiqvit.quant.surgery import set_mode
from aiqvit.recon.fisher import Fisher
from aiqvit.recon.loop import Schedule
from aiqvit.recon.objective import Objective, objective
from aiqvit.recon.rounded import RoundingRates, train_rounding
from aiqvit.recon.walk import UnitData, calibrate_ranges, is_head, reconstruct_model

BY_PRODUCT = FocusGrid(lows=(0.0,), steps=99)  # ranges from 0 up to 1 / keys .. 1, by the error of the product
OPERANDS = PercentileMSE((0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999), by_output=True)  # ranges a head
WEIGHTS = PercentileMSE(WEIGHT_FRACTIONS, by_output=True)


@dataclass(frozen=True)
class BRECQ(Trained):
    """AdaRound by blocks, then learned activation scales; L2.4 ranges; everything per tensor but weights."""

    title: ClassVar[str] = "BRECQ"
    note: ClassVar[str] = "CNN method; ported to transformer blocks as in later papers."
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"images": 512, "batch": 8, "steps": 320, "scale_steps": 80, "rounding_rate": 0.2, "level_rate": 0.3,
                  "penalty": 0.1, "loss": "token", "ranges": "token"},
        "smoke": {"images": 8, "batch": 4, "steps": 3, "scale_steps": 2, "init_images": 4, "elements": 2**12},
    }

    images: Count = 1024
    batch: Count = 32
    steps: Whole = 20000  # rounding, a unit
    scale_steps: Whole = 5000  # activation scales alone, a unit, after rounding; joint training has none
    rounding_rate: Rate = 1e-3  # Adam on alpha
    scale_rate: Rate = 4e-5  # Adam on activation scales in joint training
    second_rate: Rate = 4e-4  # the same in the second phase
    level_rate: Rate = 0.0  # the same in levels by which an end of the range moves, for short schedules; 0: scale_rate
    penalty: Number = 0.01  # lambda of the rounding regulariser
    warm_up: Share = 0.2  # fraction of the steps without it
    joint: bool = True  # rounding and activation scales at once
    inputs: Literal["quantized", "fp"] = "quantized"  # of joint training
    softmax: Literal["output", "own"] = "output"  # error by which the range of post-Softmax activations is searched
    operands: Literal["tensor", "head"] = "tensor"  # granularity of the attention products' operands
    weights: Literal["own", "output"] = "own"  # error that sets ranges of weights; output: that of the layer's output
    reparam: bool = True  # ranges of post-LayerNorm activations found by channel, then reparameterized
    loss: Literal["mse", "relative", "tokenwise", "token", "fisher"] = "mse"
    ranges: Literal["own", "token"] = "own"  # error that sets ranges of activations; token: each in its own units
    damping: Number = 1.0  # added to |gradient| by fisher
    head: bool = True  # reconstruct a head that is one layer too
    put_back: bool = True  # bring a unit back as it was where its loss rose
    init_images: Count = 64  # images that set the ranges
    elements: Whole = 2**18  # values of an activation tensor on which its range is searched
    protocol: Literal["unified", "paper"] = "unified"  # paper: image not quantized, first and last layer 8 bit
    memory_gb: Number = 4.0

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: losses, seconds."""
        goal = Fisher(job, self.damping) if self.loss == "fisher" else objective(self.loss)

        def reconstruct_unit(data: UnitData) -> dict | None:
            calibrate_ranges(data, self.init_images, self.reparam)
            if is_head(data.unit) and not self.head:
                return None
            return self.reconstruct(data, goal, job)

        return reconstruct_model(job, self.scheme(job), reconstruct_unit, init_images=self.init_images,
                                 memory_gb=self.memory_gb)

    def scheme(self, job: Job) -> RoleScheme:
        """Role -> quantizer."""
        search = Shrink(elements=self.elements, by_token=self.ranges == "token")
        return ported(self, job, search, search)

    def reconstruct(self, data: UnitData, goal: Objective, job: Job) -> dict:
        """Train one unit towards the objective `goal`; return its log entry."""
        began = time.perf_counter()
        if self.joint:
            losses = self.train(data, Schedule(self.steps, self.batch, goal, mix=float(self.inputs == "fp")),
                                self.rates(self.rounding_rate, self.scale_rate), job)
        else:
            set_mode(data.unit, "off", weights=False)
            losses = self.train(data, Schedule(self.steps, self.batch, goal), self.rates(self.rounding_rate), job)
            set_mode(data.unit, "on", weights=False)
            losses["scales"] = self.train(data, Schedule(self.scale_steps, self.batch, objective("l2.4"), mix=1.0),
                                          self.rates(0.0, self.second_rate), job)
        return {**losses, "seconds": round(time.perf_counter() - began, 2)}

    def train(self, data: UnitData, schedule: Schedule, rates: RoundingRates, job: Job) -> dict:
        """One phase; the losses before and after."""
        return train_rounding(data, schedule, rates, job.generator, job.progress, self.put_back)

    def rates(self, rounding: float, scale: float = 0.0) -> RoundingRates:
        """The learning rates of a phase."""
        return RoundingRates(rounding, scale, self.level_rate * bool(scale), self.penalty, self.warm_up)


def ported(method: Any, job: Job, search: Observer, ends: Observer) -> RoleScheme:
    """The scheme of BRECQ and QDrop: `search` finds the ranges of activations, `ends` that of the last 8-bit input."""
    w, a = job.bits.weight, job.bits.activation
    activations = {
        "default": spec(Uniform, a, None, search),
        "image": spec(Uniform, 8, None, search),
        "post_softmax": spec(Uniform, a, None, BY_PRODUCT if method.softmax == "output" else search),
    }
    activations |= by_head(job) if method.operands == "head" else {}
    activations |= by_channel(job) if method.reparam else {}
    weights = spec(Uniform, w, 0, WEIGHTS if method.weights == "output" else Shrink())
    scheme = by_role({"default": weights}, activations)
    return eight_bit_ends(scheme, ends) if method.protocol == "paper" else scheme


def by_head(job: Job) -> dict[str, QuantSpec]:
    """The ports' attention operands: a range a head, set by the error of the product where it can be told.

    Vector attention, on points, has no heads: nothing changes there.
    """
    if not any(hasattr(module, "num_heads") for module in job.model.modules()):
        return {}
    found = dict.fromkeys(("query", "key", "value"), spec(Uniform, job.bits.activation, 1, OPERANDS))
    return found | {"post_softmax": spec(Uniform, job.bits.activation, 1, BY_PRODUCT)}


def by_channel(job: Job) -> dict[str, QuantSpec]:
    """The ports' post-LayerNorm activations: a range a channel, to be reparameterized."""
    search = PercentileMSE(WEIGHT_FRACTIONS)
    return {"post_layernorm": spec(Uniform, job.bits.activation, -1, search, include_zero=False)}


def eight_bit_ends(scheme: RoleScheme, search: Observer) -> RoleScheme:
    """The CNN codes' convention: image in full precision, weights of first and last layer and the last input 8 bit."""
    ends = dict.fromkeys(("patch_embed", "head"), spec(Uniform, 8, 0, Shrink()))
    return by_role({**scheme.weights, **ends},
                   {**scheme.activations, "image": spec(Float, 32), "head": spec(Uniform, 8, None, search)})
