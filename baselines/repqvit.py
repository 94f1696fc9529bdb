"""RepQ-ViT: scale reparameterization for post-training quantization of vision transformers.

Li, Xiao, Yang, Gu, ICCV 2023. Differences from the authors' code: zero-points are integers after reparameterization
too, and the log-sqrt2 quantizer has 2^b codes, not 2^b + 1 (`official_levels` gives theirs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from aiqvit.bounds import Count, Fractions
from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Job, Method
from aiqvit.quant.observers import PercentileMSE
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.quantizers import LogSqrt2, Uniform
from aiqvit.quant.site import by_role, spec
from aiqvit.quant.surgery import calibrate
from aiqvit.recon.capture import first_images
from aiqvit.transforms.reparam import reparameterize


@dataclass(frozen=True)
class RepQViT(Method):
    """Percentile ranges; per-channel post-LayerNorm scales folded into one; log-sqrt2 post-Softmax."""

    title: ClassVar[str] = "RepQ-ViT"
    presets: ClassVar[dict[str, dict]] = {"smoke": {"images": 4}}

    images: Count = 32
    fractions: Fractions = (0.999, 0.9999, 0.99999)
    official_levels: bool = False

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`."""
        w, a, search = job.bits.weight, job.bits.activation, PercentileMSE(self.fractions)
        scheme = by_role({"default": spec(Uniform, w, 0, search)}, {
            "default": spec(Uniform, a, None, search),
            "image": spec(Uniform, 8, None, search),
            "post_layernorm": spec(Uniform, a, -1, search, include_zero=False),
            "post_softmax": spec(LogSqrt2, a, None, search, official_levels=self.official_levels),
        })
        model = quantize_model(job.model, scheme, BitPolicy(job.bits, job.bit_rules))
        images, count = first_images(job, self.images)
        calibrate(model, lambda m: job.forward(m, images), images=count)
        reparameterize(model)
        return model
