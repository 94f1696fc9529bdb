"""I&S-ViT: inclusive and stable post-training quantization of vision transformers (Zhong et al., arXiv 2311.10126).

Shift-uniform-log2 post-Softmax, and a smooth optimization strategy in three stages: train with quantized activations,
post-LayerNorm ones per channel, and full-precision weights; reparameterize to one range per tensor; quantize the
weights and train again. Differences from the authors' code: all three stages of a unit are run before the next unit
(stage 1 sees full-precision inputs there and here), 2^b codes instead of 2^b + 1 (`official_levels`), stochastic depth
is off, and Swin's reductions are reparameterized too. `paper` trains the head too, as the authors do;
`quick` does not: one token an image is too little to learn from in a short schedule (`results/tuning.md`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from aiqvit.bounds import Count, Fractions, Number, Rate, Whole
from aiqvit.interfaces import Job, Trained
from aiqvit.quant.observers import WEIGHT_FRACTIONS, PercentileMSE
from aiqvit.quant.quantizers import Float, ShiftUniformLog2, Uniform
from aiqvit.quant.site import RoleScheme, by_role, spec
from aiqvit.quant.surgery import quant_layers
from aiqvit.recon.loop import Group, Schedule, guarded, reconstruct, uniform_sampler
from aiqvit.recon.objective import objective
from aiqvit.recon.walk import UnitData, calibrate_unit, is_head, reconstruct_model
from aiqvit.transforms.reparam import reparameterize


@dataclass(frozen=True)
class ISViT(Trained):
    """All weights and biases trained through straight-through rounding, in three stages a unit."""

    title: ClassVar[str] = "I&S-ViT"
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"images": 512, "batch": 8, "steps": 160, "high_bit_steps": 160, "rate": 1e-3, "loss": "token",
                  "ranges": "token", "head": False},
        "smoke": {"images": 8, "batch": 4, "steps": 2, "high_bit_steps": 2, "init_images": 4},
    }

    images: Count = 1024
    batch: Count = 64
    steps: Whole = 1000  # a unit and stage
    high_bit_steps: Whole = 200  # the same from 6-bit weights on
    rate: Rate = 4e-5  # Adam on weights and biases
    fractions: Fractions = WEIGHT_FRACTIONS
    official_levels: bool = False
    loss: Literal["mse", "relative", "tokenwise", "token"] = "mse"
    ranges: Literal["own", "token"] = "own"  # error that sets ranges per tensor; token: each in its own units
    head: bool = True  # reconstruct a head that is one layer too
    put_back: bool = True  # bring a unit back as it was where its loss rose in a stage
    init_images: Count = 64  # images that set the ranges
    protocol: Literal["unified", "paper"] = "unified"  # paper: the image is not quantized
    memory_gb: Number = 4.0

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: losses, seconds."""
        steps = self.high_bit_steps if job.bits.weight >= 6 else self.steps

        def reconstruct_unit(data: UnitData) -> dict:
            began, losses = time.perf_counter(), {}
            calibrate_unit(data, self.init_images, weights=False)
            train = self.head or not is_head(data.unit)
            if train:
                losses["activations"] = self.train(data, steps, 1.0, job)
            reparameterize(data.unit)
            calibrate_unit(data, self.init_images, activations=False)
            if train:
                losses |= self.train(data, steps, 0.0, job)
            return {**losses, "seconds": round(time.perf_counter() - began, 2)}

        return reconstruct_model(job, self.scheme(job), reconstruct_unit, init_images=self.init_images,
                                 memory_gb=self.memory_gb)

    def scheme(self, job: Job) -> RoleScheme:
        """Role -> quantizer."""
        w, a = job.bits.weight, job.bits.activation
        return by_role({"default": spec(Uniform, w, 0, PercentileMSE(self.fractions))}, {
            "default": spec(Uniform, a, None, PercentileMSE(by_token=self.ranges == "token")),
            "image": spec(Float, 32) if self.protocol == "paper" else spec(Uniform, 8),
            "post_layernorm": spec(Uniform, a, -1, include_zero=False),
            "post_softmax": spec(ShiftUniformLog2, a, official_levels=self.official_levels),
        })

    def train(self, data: UnitData, steps: int, mix: float, job: Job) -> dict:
        """Train every weight and bias of the unit's layers; `mix` 1 feeds full-precision inputs, and judges by them."""
        layers = [layer for _, layer in quant_layers(data.unit)]
        trained = tuple(p for layer in layers for p in (layer.weight, layer.bias) if p is not None)
        sample = uniform_sampler(torch.arange(len(data.inputs)), self.batch, job.generator)
        schedule = Schedule(steps, self.batch, objective(self.loss), mix)
        return guarded(data, schedule, lambda: reconstruct(data, [Group(trained, self.rate)], schedule, sample,
                                                           progress=job.progress), self.put_back)
