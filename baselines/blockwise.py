"""Block reconstruction with any objective on any base: what GLF-Q, LS-ViT, FIMA-Q and APHQ-ViT share.

These methods quantize a unit at a time and differ in what they minimize (`objective`), in how they train (`base`) and
in what they do to the network before (`rotate`, `relu`). Each has a file of its own with its settings; here is the
engine, and the grid in which every objective stands on every base, so that losses are told from rewriting.

- `adaround_qdrop` learns the rounding of weights and the scales of activations, half of whose elements are not
  quantized while training (QDrop, Wei et al., ICLR 2022).
- `ste` trains the weights themselves, their biases and all scales through straight-through rounding, behind quantized
  predecessors and without dropping (GLF-Q).

Ranges are those of QDrop here: post-LayerNorm ones by channel, then reparameterized, post-Softmax ones by the error of
the attention product, the others by their own. The official codes of these methods search the ranges by the error of
each layer's output, on a grid of scales and zero-points.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from aiqvit.baselines.brecq import BY_PRODUCT, by_channel, by_head
from torch import nn

from aiqvit.bounds import Count, Number, Part, Rate, Share, Tries, Whole
from aiqvit.families.opening import open_model
from aiqvit.interfaces import Job, Trained
from aiqvit.quant.observers import RangeAndZero, Shrink
from aiqvit.quant.quantizers import Float, Uniform
from aiqvit.quant.site import RoleScheme, by_role, spec
from aiqvit.recon.loop import Schedule
from aiqvit.recon.mlp import relu_model
from aiqvit.recon.mlp_training import MlpSchedule
from aiqvit.recon.objective import Objective, objective
from aiqvit.recon.objectives.diagonal import DiagonalFisher
from aiqvit.recon.objectives.fima import FIMA
from aiqvit.recon.objectives.least_squares import LeastSquares
from aiqvit.recon.objectives.perturbation import Perturbation
from aiqvit.recon.objectives.tail_aware import Features, Logits, TailAware, head_layer
from aiqvit.recon.rounded import RoundingRates, train_dropping
from aiqvit.recon.straight import WeightRates, train_weights
from aiqvit.recon.tail import End
from aiqvit.recon.tokens import scales_by_token
from aiqvit.recon.walk import UnitData, calibrate_ranges, gives_logits, is_head, reconstruct_model

Loss = Literal["mse", "token", "fisher", "aph", "fima", "ls", "logits", "glf"]
Base = Literal["adaround_qdrop", "ste"]


@dataclass(frozen=True)
class Blockwise(Trained):
    """One objective on one base; per-channel weights, per-tensor activations."""

    title: ClassVar[str] = "Block reconstruction"
    note: ClassVar[str] = "ours: any objective on any base, to tell losses from rewriting."
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"images": 512, "batch": 8, "steps": 320, "rounding_rate": 0.2, "level_rate": 0.3, "penalty": 0.1,
                  "weight_rate": 1e-3, "tail_rate": 3e-4, "weight_level": 0.1, "tail_half": True, "local": 10.0,
                  "head": False, "init_images": 64, "mlp_steps": 1200, "mlp_rate": 1e-3, "refreshes": 4,
                  "curvature_images": 128, "regions": 100, "bf16": True},
        "smoke": {"images": 8, "batch": 4, "steps": 3, "init_images": 4, "elements": 2**12, "widths": 20,
                  "mlp_steps": 3, "refreshes": 1},
    }
    grids: ClassVar[dict[str, tuple[str, ...]]] = {
        "losses": (*(f"objective={loss}" for loss in get_args(Loss)),
                   *(f"base=ste,objective={loss},rotate=on,relu=on" for loss in get_args(Loss))),
        "rewriting": tuple(f"base=ste,objective={loss},rotate={rotate},relu={relu}" for loss in ("mse", "glf")
                           for rotate in ("off", "on") for relu in ("off", "on")),
    }
    only_in_grids: ClassVar[bool] = True

    images: Count = 1024
    batch: Count = 32
    steps: Whole = 20000  # a unit
    objective: Loss = "mse"
    base: Base = "adaround_qdrop"
    refreshes: Count = 15  # of the Fisher matrix while a unit trains (fima)
    curvature_images: Whole = 0  # that gradients are taken of (fima, ls, aph); 0: all
    relu: bool = False  # GELUs become ReLUs, whose MLPs are reconstructed first
    mlp_loss: Literal["plain", "hessian"] = "plain"  # of MLP reconstruction
    mlp_steps: Whole = 20000  # the same, a block
    mlp_rate: Rate = 4e-5  # Adam on weights and biases of an MLP
    mlp_quantile: Part = 0.99  # of the values above 0 behind GELU, at which the clamped term clamps
    tail_share: Share = 1.0  # of each batch, seen by the rest of the network (glf, logits)
    tail_half: bool = False  # its matrix products in bfloat16 (glf, logits)
    tail_skip: Share = 0.0  # of the units, from the first, that have no such term (glf, logits)
    local: Number = 2.0  # weight of the local term beside that (glf, logits)
    regions: Count = 1000  # an image, that are compared (glf on detectors)
    rounding_rate: Rate = 1e-3  # Adam on alpha (adaround_qdrop)
    weight_rate: Rate = 2e-5  # Adam on weights, biases and weight scales (ste)
    tail_rate: Rate = 0.0  # the same where the loss sees the rest of the network (glf, logits); 0: weight_rate
    weight_level: Rate = 0.0  # of weight scales, in levels by which an end of the range moves; 0: weight_rate
    scale_rate: Rate = 4e-5  # Adam on activation scales
    level_rate: Rate = 0.0  # the same in levels, for short schedules; 0: scale_rate
    drop: Share = 0.5  # share of elements not quantized while training (adaround_qdrop)
    penalty: Number = 0.01  # lambda of the rounding regulariser (adaround_qdrop)
    warm_up: Share = 0.2  # fraction of the steps without it
    ranges: Literal["own", "token"] = "own"  # error that sets ranges of activations; token: each in its own units
    operands: Literal["tensor", "head"] = "tensor"  # granularity of the attention products' operands
    tokens: bool = False  # one scale a token, static
    head: bool = True  # reconstruct a head that is one layer too; logits are compared by their KL divergence
    put_back: bool = True  # bring a unit back as it was where its loss rose
    init_images: Count = 128  # images that set the ranges
    elements: Whole = 2**14  # values of an activation tensor on which its range is searched
    widths: Tries = 100  # ranges tried, where both signs occur with every zero-point
    protocol: Literal["unified", "paper"] = "unified"  # paper: the image is not quantized, and what `official` says
    memory_gb: Number = 4.0

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: losses, seconds."""
        return (replace(self, **self.official(job)) if self.protocol == "paper" else self).reconstructed(job)

    def official(self, job: Job) -> dict[str, Any]:
        """The settings that protocol=paper brings, those of the official code: one range a tensor here."""
        return {}

    def reconstructed(self, job: Job) -> nn.Module:
        """The quantized model, with the settings as they are."""
        if self.relu:
            relu_model(job, MlpSchedule(self.mlp_steps, self.batch, self.mlp_rate, self.mlp_quantile, self.mlp_loss,
                                        self.memory_gb, self.curvature_images))
        goal = self.goal(job)

        def reconstruct_unit(data: UnitData) -> dict | None:
            calibrate_ranges(data, self.init_images, reparam=True)
            if self.tokens:
                scales_by_token(data)
            if is_head(data.unit) and not self.head:
                return None
            began = time.perf_counter()
            losses = self.train(data, objective("kl") if gives_logits(data.unit) else goal, job)
            return {**losses, "seconds": round(time.perf_counter() - began, 2)}

        return reconstruct_model(job, self.scheme(job), reconstruct_unit, init_images=self.init_images,
                                 memory_gb=self.memory_gb)

    def goal(self, job: Job) -> Objective:
        """The objective of all units but the head."""
        if self.objective == "glf":
            return Features(self.feature(job), self.tail_share, self.local, self.tail_skip, self.tail_half)
        if self.objective == "logits":
            return Logits("", self.tail_share, self.local, self.tail_skip, self.tail_half)
        if self.objective == "fisher":
            return DiagonalFisher()
        if self.objective == "fima":
            return FIMA(self.steps, self.refreshes, self.curvature_images or None)
        if self.objective == "ls":
            return LeastSquares(self.curvature_images or None)
        if self.objective == "aph":
            return Perturbation(job.seed, self.curvature_images or None)
        return objective(self.objective)

    @torch.no_grad()
    def feature(self, job: Job) -> End:
        """Where the feature of glf is: in front of the head, or what the task has features for.

        Regions of detectors are found here, by the student as it is rewritten but not quantized: they stay.
        """
        if job.features is None:
            return head_layer(open_model(job.model), lambda model: job.forward(model, job.calibration[0]))
        for batch in job.calibration:
            job.forward(job.model, batch)
        return lambda model, batch: job.features(model, batch, self.regions)

    def scheme(self, job: Job) -> RoleScheme:
        """Role -> quantizer."""
        search = RangeAndZero(self.widths, elements=self.elements, by_token=self.ranges == "token")
        activations = {
            "default": spec(Uniform, job.bits.activation, None, search),
            "image": spec(Float, 32) if self.protocol == "paper" else spec(Uniform, 8, None, search),
            "post_softmax": spec(Uniform, job.bits.activation, None, BY_PRODUCT),
        }
        activations |= (by_head(job) if self.operands == "head" else {}) | by_channel(job)
        return by_role({"default": spec(Uniform, job.bits.weight, 0, Shrink())}, activations)

    def train(self, data: UnitData, goal: Objective, job: Job) -> dict:
        """Train one unit on the base; return its losses."""
        if self.base == "ste":
            rate = self.tail_rate if self.tail_rate and isinstance(goal, TailAware) else self.weight_rate
            rates = WeightRates(rate, self.scale_rate, self.weight_level, self.level_rate)
            return train_weights(data, Schedule(self.steps, self.batch, goal), rates, job.generator, job.progress,
                                 self.put_back)
        rates = RoundingRates(self.rounding_rate, self.scale_rate, self.level_rate, self.penalty, self.warm_up)
        return train_dropping(data, Schedule(self.steps, self.batch, goal, mix=self.drop), rates, self.drop, job,
                              self.put_back)
