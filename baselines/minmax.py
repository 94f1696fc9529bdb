"""MinMax: the range of every tensor is its minimum and maximum. No paper; the floor that others must beat.

AIQViT's Tables 3 and 4 list it (citing AdaRound, which is another method). Weights per output channel, activations per
tensor, post-LayerNorm, post-Softmax and post-GELU alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from aiqvit.interfaces import Job, Method
from aiqvit.quant.observers import MinMax as Range
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.surgery import observe, quantize_model
from aiqvit.recon.capture import first_images


@dataclass(frozen=True)
class MinMax(Method):
    """Asymmetric uniform quantizers over the whole range, set in one forward pass."""

    title: ClassVar[str] = "MinMax"
    presets: ClassVar[dict[str, dict]] = {"smoke": {"images": 4}}

    images: int = 32

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`."""
        weight, activation = job.bits.weight, job.bits.activation
        model = quantize_model(job.model, {
            "weight": lambda: Uniform(weight, 0, Range()),
            "activation": lambda: Uniform(activation, observer=Range()),
            "image": lambda: Uniform(8, observer=Range()),
        })
        images = first_images(job, self.images)
        observe(model, lambda m: job.forward(m, images))
        return model
