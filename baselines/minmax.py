"""MinMax: the range of every tensor is its minimum and maximum. No paper; the floor that others must beat.

AIQViT's Tables 3 and 4 list it (citing AdaRound, which is another method). Weights per output channel, activations per
tensor, post-LayerNorm, post-Softmax and post-GELU alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from aiqvit.bounds import Count
from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Job, Method
from aiqvit.quant.observers import MinMax as Range
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.site import by_role, spec
from aiqvit.quant.surgery import calibrate
from aiqvit.recon.capture import first_images


@dataclass(frozen=True)
class MinMax(Method):
    """Asymmetric uniform quantizers over the whole range, set in one forward pass."""

    title: ClassVar[str] = "MinMax"
    presets: ClassVar[dict[str, dict]] = {"smoke": {"images": 4}}

    images: Count = 32

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`."""
        w, a = job.bits.weight, job.bits.activation
        scheme = by_role({"default": spec(Uniform, w, 0, Range())},
                         {"default": spec(Uniform, a, None, Range()), "image": spec(Uniform, 8, None, Range())})
        model = quantize_model(job.model, scheme, BitPolicy(job.bits, job.bit_rules))
        images, count = first_images(job, self.images)
        calibrate(model, lambda m: job.forward(m, images), images=count)
        return model
