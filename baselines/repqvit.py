"""RepQ-ViT: scale reparameterization for post-training quantization of vision transformers.

Li, Xiao, Yang, Gu, ICCV 2023. Differences from the authors' code: zero-points are integers after reparameterization
too, and the log-sqrt2 quantizer has 2^b codes, not 2^b + 1 (`official_levels` gives theirs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from aiqvit.interfaces import Job, Method
from aiqvit.quant.observers import PercentileMSE
from aiqvit.quant.quantizers import LogSqrt2, Uniform
from aiqvit.quant.reparam import reparameterize
from aiqvit.quant.surgery import observe, quantize_model
from aiqvit.recon.capture import first_images


@dataclass(frozen=True)
class RepQViT(Method):
    """Percentile ranges; per-channel post-LayerNorm scales folded into one; log-sqrt2 post-Softmax."""

    title: ClassVar[str] = "RepQ-ViT"
    presets: ClassVar[dict[str, dict]] = {"smoke": {"images": 4}}

    images: int = 32
    fractions: tuple[float, ...] = (0.999, 0.9999, 0.99999)
    official_levels: bool = False

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`."""
        weight, activation = job.bits.weight, job.bits.activation
        search = PercentileMSE(self.fractions)
        model = quantize_model(job.model, {
            "weight": lambda: Uniform(weight, 0, search),
            "activation": lambda: Uniform(activation, observer=search),
            "image": lambda: Uniform(8, observer=search),
            "post_layernorm": lambda: Uniform(activation, -1, search, include_zero=False),
            "post_softmax": lambda: LogSqrt2(activation, observer=search, official_levels=self.official_levels),
        })
        images = first_images(job, self.images)
        observe(model, lambda m: job.forward(m, images))
        reparameterize(model)
        return model
