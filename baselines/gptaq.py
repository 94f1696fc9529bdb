"""GPTAQ: finetuning-free quantization with asymmetric calibration (Li et al., ICML 2025), for vision transformers.

https://arxiv.org/abs/2504.02692, code https://github.com/Intelligent-Computing-Lab-Yale/GPTAQ (`vit_quant`). Layers are
rounded column by column (`aiqvit.recon.sequential`) in the order in which a block calls them, each behind those before
it as they are then, towards what the full-precision model gives. Differences from the authors' code:

- Activations have one static range a tensor: RepQ-ViT's quantizers, or QDrop's (`activations=qdrop`), post-LayerNorm
  ranges reparameterized. Theirs are quantized anew for every token, as `protocol=paper` does.
- Softmax, attention products, patch embedding and head are quantized too; `protocol=paper` leaves them as theirs are.
- The model is not rotated unless `rotate` says so, as in their script for transformers; MARR rotates.
- Updates within and beyond a block of columns have the same coefficients; theirs use rounded values beyond it.
- MARR's search of `alpha` for each layer is left out. Grouped convolutions, and layers outside all units, are rounded
  to nearest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, Literal

from aiqvit.baselines.brecq import BY_PRODUCT
from torch import nn

from aiqvit.bounds import Count, Number, Share
from aiqvit.interfaces import Job, Method
from aiqvit.quant.observers import WEIGHT_FRACTIONS, PercentileMSE, RangeAndZero, Shrink
from aiqvit.quant.quantizers import DynamicUniform, Float, LogSqrt2, Uniform
from aiqvit.quant.site import RoleScheme, by_role, spec
from aiqvit.recon.layerwise import full_precision_copy, input_grams, layer_calls
from aiqvit.recon.levels import Levels, write_weight
from aiqvit.recon.sequential import round_sequentially
from aiqvit.recon.walk import UnitData, calibrate_ranges, is_head, reconstruct_model

ENDS, FLOAT = ("patch_embed", "head"), ("image", "query", "key", "value", "post_softmax", "head")  # in `paper`
FRACTIONS = (0.999, 0.9999, 0.99999)  # RepQ-ViT's


@dataclass(frozen=True)
class GPTAQ(Method):
    """Sequential rounding of columns, with the error of the layers before as a part of the target."""

    title: ClassVar[str] = "GPTAQ"
    fairness: ClassVar[str] = ("activations quantized anew for each token; softmax, attention products, patch "
                               "embedding and head in full precision")
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {},
        "smoke": {"images": 8, "init_images": 4},
    }

    images: Count = 128
    init_images: Count = 32  # images that set the ranges of activations
    alpha: Share = 0.25  # weight of the error of the layers before; 0: GPTQ
    damping: Number = 0.1  # of the Gram matrix, in means of its diagonal
    block: Count = 128  # columns whose updates to the others are made at once
    activations: Literal["repqvit", "qdrop"] = "repqvit"  # whose quantizers
    ranges: Literal["own", "token"] = "own"  # error that sets ranges per tensor; token: each in its own units
    head: bool = True  # round a head that is one layer sequentially too
    protocol: Literal["unified", "paper"] = "unified"  # paper: only layers of blocks, activations anew for each token
    memory_gb: Number = 4.0

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: seconds."""
        def reconstruct_unit(data: UnitData) -> dict:
            began = time.perf_counter()
            calibrate_ranges(data, self.init_images, reparam=True)
            if self.head or not is_head(data.unit):
                self.round_unit(data)
            return {"seconds": round(time.perf_counter() - began, 2)}

        return reconstruct_model(job, self.scheme(job), reconstruct_unit, init_images=self.init_images,
                                 memory_gb=self.memory_gb)

    def scheme(self, job: Job) -> RoleScheme:
        """Role -> quantizer."""
        a, qdrop, token = job.bits.activation, self.activations == "qdrop", self.ranges == "token"
        channel = PercentileMSE(WEIGHT_FRACTIONS if qdrop else FRACTIONS)
        tensor = RangeAndZero(by_token=token) if qdrop else PercentileMSE(FRACTIONS, by_token=token)
        weights = {"default": spec(Uniform, job.bits.weight, 0, Shrink())}
        activations = {
            "default": spec(Uniform, a, None, tensor),
            "image": spec(Uniform, 8, None, tensor),
            "post_layernorm": spec(Uniform, a, -1, channel, include_zero=False),
            "post_softmax": spec(Uniform, a, None, BY_PRODUCT) if qdrop else spec(LogSqrt2, a, None, channel),
        }
        if self.protocol == "paper":
            weights |= dict.fromkeys(ENDS, spec(Float, 32))
            activations = {"default": spec(DynamicUniform, a), **dict.fromkeys(FLOAT, spec(Float, 32))}
        return by_role(weights, activations)

    def round_unit(self, data: UnitData) -> None:
        """Round the layers of one unit in the order of their calls."""
        plain = full_precision_copy(data.unit)
        for name in dict.fromkeys(layer_calls(data)):
            layer = data.unit.get_submodule(name)
            if not layer.weight_quantizer.coded or getattr(layer, "groups", 1) != 1:
                continue
            gram = input_grams(data, [name], plain)[name]
            levels = Levels.of(layer.weight_quantizer, layer.weight)
            weight = layer.weight.detach().flatten(1)
            write_weight(layer, round_sequentially(weight, levels, gram, self.alpha, self.damping, self.block))
