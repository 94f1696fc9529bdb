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

from aiqvit.interfaces import Job, Method
from aiqvit.quant.observers import WEIGHT_FRACTIONS, PercentileMSE
from aiqvit.quant.quantizers import Float, Uniform
from aiqvit.quant.reparam import reparameterize
from aiqvit.quant.shift_log import ShiftUniformLog2
from aiqvit.quant.surgery import quant_layers
from aiqvit.recon.loop import Group, Schedule, keep_better, reconstruct, uniform_sampler
from aiqvit.recon.walk import UnitData, is_head, observe_unit, repair


@dataclass(frozen=True)
class ISViT(Method):
    """All weights and biases trained through straight-through rounding, in three stages a unit."""

    title: ClassVar[str] = "I&S-ViT"
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"images": 512, "batch": 8, "steps": 160, "high_bit_steps": 160, "rate": 1e-3, "loss": "token",
                  "ranges": "token", "head": False},
        "smoke": {"images": 8, "batch": 4, "steps": 2, "high_bit_steps": 2, "init_images": 4},
    }

    images: int = 1024
    batch: int = 64
    steps: int = 1000  # a unit and stage
    high_bit_steps: int = 200  # the same from 6-bit weights on
    rate: float = 4e-5  # Adam on weights and biases
    fractions: tuple[float, ...] = WEIGHT_FRACTIONS
    official_levels: bool = False
    loss: Literal["mse", "relative", "tokenwise", "token"] = "mse"
    ranges: Literal["own", "token"] = "own"  # error that sets ranges per tensor; token: each in its own units
    head: bool = True  # reconstruct a head that is one layer too
    init_images: int = 64  # images that set the ranges
    protocol: Literal["unified", "paper"] = "unified"  # paper: the image is not quantized
    memory_gb: float = 4.0

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: losses, seconds."""
        generator = job.generator
        steps = self.high_bit_steps if job.bits.weight >= 6 else self.steps

        def mend(data: UnitData) -> dict:
            began = time.perf_counter()
            observe_unit(data, self.init_images, weights=False)
            train = self.head or not is_head(data.unit)
            if train:
                self.train(data, steps, 1.0, generator, job)
            reparameterize(data.unit)
            observe_unit(data, self.init_images, activations=False)
            losses = self.train(data, steps, 0.0, generator, job) if train else {}
            return {**losses, "seconds": round(time.perf_counter() - began, 2)}

        return repair(job, self.scheme(job), mend, init_images=self.init_images, memory_gb=self.memory_gb)

    def scheme(self, job: Job) -> dict:
        """Role -> quantizer."""
        w, a = job.bits.weight, job.bits.activation
        return {
            "weight": lambda: Uniform(w, 0, PercentileMSE(self.fractions)),
            "activation": lambda: Uniform(a, observer=PercentileMSE(by_token=self.ranges == "token")),
            "image": Float if self.protocol == "paper" else lambda: Uniform(8),
            "post_layernorm": lambda: Uniform(a, -1, include_zero=False),
            "post_softmax": lambda: ShiftUniformLog2(a, official_levels=self.official_levels),
        }

    def train(self, data: UnitData, steps: int, mix: float, generator: torch.Generator, job: Job) -> dict:
        """Train every weight and bias of the unit's layers; `mix` 1 feeds full-precision inputs."""
        layers = [layer for _, layer in quant_layers(data.unit)]
        trained = tuple(p for layer in layers for p in (layer.weight, layer.bias) if p is not None)
        sample = uniform_sampler(torch.arange(len(data.inputs)), self.batch, generator)
        return keep_better(data, self.loss, lambda: reconstruct(
            data, [Group(trained, self.rate)], Schedule(steps, self.batch, self.loss, mix), sample,
            progress=job.progress))
