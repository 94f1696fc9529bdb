"""ERQ: error reduction for post-training quantization of vision transformers (Zhong et al., ICML 2024, TPAMI 2025).

https://arxiv.org/abs/2407.06794, code https://github.com/zysxmu/ERQ. RepQ-ViT's quantizers; then, layer by layer on
full-precision inputs, weights are changed in closed form against the error of quantized activations, and once more
while they are rounded (`aiqvit.recon.ridge`). Nothing is trained. Differences from the authors' code:

- The log-sqrt2 quantizer has 2^b codes, not 2^b + 1 (`official_levels` gives theirs), weights one range a row; theirs
  have two in qkv and fc1, the TPAMI paper's dual uniform quantizer (`dual=on`); the image has 8 bits. `protocol=paper`
  has all three as theirs.
- Mean zero-points are rounded, and Swin's reductions are reparameterized too.
- Gram matrices are summed up in place of activations kept on disk, Cholesky factors stand for inverses.
- The ridge grows with the number of images: theirs is one number, chosen at 1,024.
- Layers without a bias get one; theirs stop in a debugger. Grouped convolutions are rounded to nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from aiqvit.bounds import Count, Fractions, Number, Whole
from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Job, Method
from aiqvit.quant.layers import QuantConv2d, QuantLayer
from aiqvit.quant.observers import WEIGHT_FRACTIONS, PercentileMSE
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.quantizers import DualUniform, Float, LogSqrt2, Uniform
from aiqvit.quant.site import RoleScheme, by_role, spec
from aiqvit.quant.surgery import calibrate, calibrate_remaining, quant_layers
from aiqvit.recon.capture import first_images
from aiqvit.recon.layerwise import Gram, network_grams
from aiqvit.recon.levels import Levels, with_bias, write_weight
from aiqvit.recon.ridge import reduce_activation_error, reduce_weight_error
from aiqvit.samples import samples_in
from aiqvit.transforms.reparam import reparameterize

AT = 1024  # images at which the authors chose their ridge


@dataclass(frozen=True)
class ERQ(Method):
    """Ridge regression against the errors of activations and weights, with refined rounding."""

    title: ClassVar[str] = "ERQ"
    fairness: ClassVar[str] = "two ranges a row of qkv and fc1 weights, 2^b + 1 softmax codes, the image in float"
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"images": 256},
        "smoke": {"images": 8, "init_images": 4, "refinement": 10},
    }

    images: Count = 1024
    init_images: Count = 32  # images that set the ranges of activations
    fractions: Fractions = (0.999, 0.9999, 0.99999)  # of activations
    weight_fractions: Fractions = (*WEIGHT_FRACTIONS, 1.0)
    coe: Number = 20000.0  # the ridge is a tenth of it for 1,024 images
    head_ridge: Number = 0.1  # of the activation step where a layer has one row an image, for 1,024 images
    activation_step: bool = True
    weight_step: bool = True
    refinement: Whole = 100  # moves a row and half; 0: rounding to nearest
    dual: bool = False  # two ranges a row for weights of qkv and fc1, as in the authors' code
    official_levels: bool = False
    protocol: Literal["unified", "paper"] = "unified"  # paper: image in float, dual, official_levels

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`."""
        model = quantize_model(job.model, self.scheme(job), BitPolicy(job.bits, job.bit_rules))
        images, count = first_images(job, self.init_images)
        calibrate(model, lambda m: job.forward(m, images), images=count, weights=False)
        reparameterize(model)
        grams = network_grams(model, job.calibration, job.forward)
        samples = sum(map(samples_in, job.calibration))
        for name, layer in job.progress(list(quant_layers(model)), "layers"):
            self.reduce(layer, grams.pop(name, None), samples)
        calibrate_remaining(model, lambda m: job.forward(m, images), images=count)
        return model

    def scheme(self, job: Job) -> RoleScheme:
        """Role -> quantizer."""
        w, a, paper = job.bits.weight, job.bits.activation, self.protocol == "paper"
        search, rows = PercentileMSE(self.fractions), PercentileMSE(self.weight_fractions)
        dual = dict.fromkeys(("qkv", "fc1"), spec(DualUniform, w, 0, rows)) if self.dual or paper else {}
        return by_role({"default": spec(Uniform, w, 0, rows), **dual}, {
            "default": spec(Uniform, a, None, search),
            "image": spec(Float, 32) if paper else spec(Uniform, 8, None, search),
            "post_layernorm": spec(Uniform, a, -1, search, include_zero=False),
            "post_softmax": spec(LogSqrt2, a, None, search, official_levels=self.official_levels or paper),
        })

    def reduce(self, layer: QuantLayer, gram: Gram | None, samples: int) -> None:
        """Both steps of one layer; without a Gram matrix its weight is rounded to nearest."""
        quantizer, ridge = layer.weight_quantizer, 0.1 * self.coe * samples / AT
        embedding = quantizer.role == "patch_embed"
        if gram is not None and self.activation_step and not embedding:
            single = gram.rows == samples  # a head's
            least = self.head_ridge * samples / AT if single else ridge
            write_weight(layer, reduce_activation_error(with_bias(layer), gram, least))
        quantizer.calibrate(layer.weight)
        quantizer.mode = "on"
        if gram is not None and self.weight_step and quantizer.coded:
            conv = isinstance(layer, QuantConv2d)
            levels = Levels.of(quantizer, layer.weight)
            write_weight(layer, reduce_weight_error(with_bias(layer), levels, gram, 10 * ridge if conv else ridge,
                                                    0 if conv else self.refinement))
