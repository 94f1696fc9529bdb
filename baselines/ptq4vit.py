"""PTQ4ViT: post-training quantization for vision transformers with twin uniform quantization (Yuan et al., ECCV 2022).

Symmetric quantizers; scales on a grid, weights and inputs in turn, by the squared error of a layer's output weighted
with the squared gradient of a loss. Every layer is searched on full-precision inputs. The authors' loss compares the
model with itself, so its gradient is 0 but for float noise; here labels are drawn from the model's own softmax
(`probe`). The twin softmax decodes without the authors' shift (`official_sum` restores it), and zero takes no second
code of the twin GELU. Inputs that are never negative, which transformers for images do not have, get unsigned codes
(`unsigned`; the authors' code has symmetric ones only). BasePTQ is `metric=cosine,start=0.5,rounds=1,twin=off`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiqvit.bounds import Count, Factor, Tries, Whole
from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Job, Method, UserError
from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantConv2d, QuantLayer, QuantProduct
from aiqvit.quant.observers import MinMax
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.quantizers import Float, Quantizer, Signed, TwinGelu, TwinSoftmax, Uniform
from aiqvit.quant.quantizers.twin import SPLITS
from aiqvit.quant.site import RoleScheme, by_role, spec
from aiqvit.quant.surgery import calibrate_remaining
from aiqvit.recon.capture import device_of, first_images
from aiqvit.recon.gradients import Probe, Trace, probe_loss, traces
from aiqvit.recon.scale_search import Grid, Metric, group_maxima, output_error, search_range, symmetric
from aiqvit.recon.walk import units_in


@dataclass(frozen=True)
class PTQ4ViT(Method):
    """Twin uniform quantizers and Hessian-guided scales."""

    title: ClassVar[str] = "PTQ4ViT"
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"rounds": 2, "score_rows": 768, "score_images": 8},
        "smoke": {"images": 4, "steps": 6, "rounds": 1, "score_rows": 64, "score_images": 2},
    }

    images: Count = 32
    start: Factor = 0.01  # eq_alpha: least multiple of the base scale
    end: Factor = 1.2  # eq_beta
    steps: Tries = 100  # eq_n
    rounds: Tries = 3
    metric: Metric = "hessian"
    probe: Probe = "sampled"  # loss behind the gradients
    twin: bool = True  # twin quantizers post-Softmax and post-GELU; off: plain ones
    official_sum: bool = False
    score_rows: Whole = 0  # tokens that score a candidate of a Linear, drawn at random; 0: all
    score_images: Whole = 0  # images' worth of maps that score one of an attention product or a convolution; 0: all
    unsigned: bool = True  # unsigned codes for inputs that are never negative (behind a ReLU); off: symmetric
    protocol: Literal["unified", "paper"] = "unified"  # paper: the image is not quantized

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start >= self.end:
            raise UserError(f"start={self.start}: expected a number below end={self.end}")

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: seconds."""
        model = quantize_model(job.model, self.scheme(job), BitPolicy(job.bits, job.bit_rules))
        generator = torch.Generator().manual_seed(job.seed)
        images, count = first_images(job, self.images)
        done: set[nn.Module] = set()
        for unit in [*units_in(job, model), ""]:  # what lies outside all units comes last
            began = time.perf_counter()
            wanted = [m for m in model.get_submodule(unit).modules()
                      if isinstance(m, QuantLayer | QuantProduct) and m not in done]
            if wanted:
                loss = partial(probe_loss, generator=generator, probe=self.probe)
                found = traces(model, unit, wanted, [images], job.forward, loss)
                for module, trace in job.progress(list(found.items()), unit or "other layers"):
                    self.search(module, trace, generator)
                done.update(wanted)
                job.log.append({"unit": unit or "other layers", "seconds": round(time.perf_counter() - began, 2)})
        for _, quantizer in sites(model):
            quantizer.mode = "off" if quantizer.role == "image" else "on"
        calibrate_remaining(model, lambda m: job.forward(m, images), images=count)
        return model

    def scheme(self, job: Job) -> RoleScheme:
        """Role -> quantizer."""
        w, a = job.bits.weight, job.bits.activation
        activations = {
            "default": spec(Signed, a, None, MinMax(), unsigned=self.unsigned),
            "image": spec(Float, 32) if self.protocol == "paper" else spec(Uniform, 8, None, MinMax()),
        }
        if self.twin:
            activations |= {"post_softmax": spec(TwinSoftmax, a, None, SPLITS, official_sum=self.official_sum),
                            "post_gelu": spec(TwinGelu, a, None, MinMax())}
        rows = dict.fromkeys(("qkv", "patch_embed"), spec(Uniform, w, 0, MinMax(), symmetric=True))
        return by_role({"default": spec(Uniform, w, None, MinMax(), symmetric=True), **rows}, activations)

    def search(self, module: nn.Module, trace: Trace, generator: torch.Generator) -> None:
        """Set the ranges of one layer's or product's two operands."""
        if isinstance(module, QuantProduct):
            self.search_product(module, trace)
        else:
            self.search_layer(module, trace, generator)

    def search_layer(self, layer: QuantLayer, trace: Trace, generator: torch.Generator) -> None:
        """Weights and input in turn; the weights of qkv in three groups of rows, per channel row by row."""
        x, gradient = (t.to(layer.weight.device) for t in self.scored(layer, trace, generator))
        q_x, q_w, groups = layer.input_quantizer, layer.weight_quantizer, groups_of_rows(layer)
        q_w.note = "3 groups of rows" if groups == 3 else ""
        x_high, w_high = group_maxima(trace.inputs[0]).to(x), group_maxima(layer.weight, groups)
        shape = (-1, *[1] * (layer.weight.dim() - 1))

        def widen(high: Tensor) -> Tensor:  # (groups,) to (out, 1, ...), or (1,) for the tensor
            return high if q_w.axis is None else high.repeat_interleave(len(layer.weight) // groups).reshape(shape)

        raw, fixed = product(layer, x, layer.weight), q_x.role == "image" or not q_x.coded
        if not fixed:
            look(q_x, trace.inputs[0])
            q_x.set_range(-x_high, x_high)
        for _ in range(self.rounds):
            x_hat = x if fixed else q_x.fake(x)
            if q_w.coded:
                search_range(symmetric(q_w, widen), self.candidates(w_high), lambda: output_error(
                    raw, product(layer, x_hat, q_w.fake(layer.weight)), gradient, self.metric, groups))  # noqa: B023
            if fixed:
                return
            w_hat = q_w.fake(layer.weight)
            search_range(symmetric(q_x), self.candidates(x_high), lambda: output_error(
                raw, product(layer, q_x.fake(x), w_hat), gradient, self.metric))  # noqa: B023

    def scored(self, layer: QuantLayer, trace: Trace, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What scores a candidate: inputs, (n, in) or images of a convolution, and output gradients (n, out)."""
        x, gradient = trace.inputs[0], trace.gradient
        if isinstance(layer, QuantConv2d):
            some = self.share(len(x))
            return x[:some], as_rows(gradient[:some])
        x, gradient = x.flatten(0, -2), gradient.flatten(0, -2)
        if not self.score_rows or len(x) <= self.score_rows:
            return x, gradient
        rows = torch.randperm(len(x), generator=generator)[: self.score_rows]
        return x[rows], gradient[rows]

    def share(self, count: int) -> int:
        """How many of `count` maps are `score_images` images' worth; a window attention has many maps an image."""
        part = min(self.score_images / self.images, 1) if self.score_images else 1
        return max(round(count * part), 1)

    def search_product(self, module: QuantProduct, trace: Trace) -> None:
        """Left and right operand in turn; V stays in full precision while the post-Softmax map is searched."""
        some, device = self.share(len(trace.gradient)), device_of(module)
        left, right, gradient = (t[:some].to(device) for t in (*trace.inputs, trace.gradient))
        q_l, q_r = module.left_quantizer, module.right_quantizer
        highs = [group_maxima(t).to(device) for t in trace.inputs]
        for quantizer, high, seen in zip((q_l, q_r), highs, trace.inputs, strict=True):
            if quantizer.coded:
                look(quantizer, seen)
                quantizer.set_range(-high, high)

        def multiply(a: Tensor, b: Tensor) -> Tensor:  # (n, M)
            return module.multiply(a, b).flatten(0, -2)

        raw, gradient = multiply(left, right), gradient.flatten(0, -2)
        twin = isinstance(q_l, TwinSoftmax)
        lefts = [high for _, high in SPLITS.ranges(highs[0][None], q_l.bits)] if twin else self.candidates(highs[0])
        for _ in range(self.rounds):
            other = right if q_l.role == "post_softmax" else q_r.fake(right)
            if q_l.coded:
                search_range(symmetric(q_l), lefts, lambda: output_error(
                    raw, multiply(q_l.fake(left), other), gradient, self.metric))  # noqa: B023
            a_hat = q_l.fake(left)
            if q_r.coded:
                search_range(symmetric(q_r), self.candidates(highs[1]), lambda: output_error(
                    raw, multiply(a_hat, q_r.fake(right)), gradient, self.metric))  # noqa: B023

    def candidates(self, high: Tensor) -> list[Tensor]:
        """Ranges to try around a base of (G,)."""
        return [high * factor for factor in Grid(self.start, self.end, self.steps).factors()]


def look(quantizer: Quantizer, x: Tensor) -> None:
    """Let a quantizer that can choose its codes see what it will quantize."""
    if isinstance(quantizer, Signed):
        quantizer.look(x)


def as_rows(y: Tensor) -> Tensor:
    """A convolution's output (B, out, H, W) as (n, out)."""
    return y.flatten(2).transpose(1, 2).flatten(0, 1)


@torch.no_grad()
def product(layer: QuantLayer, x: Tensor, weight: Tensor) -> Tensor:
    """Output (n, out) of a layer with these operands and without bias."""
    return as_rows(layer._conv_forward(x, weight, None)) if isinstance(layer, QuantConv2d) else F.linear(x, weight)


def groups_of_rows(layer: QuantLayer) -> int:
    """How many scales a weight has: 3 for qkv, one a channel where it is quantized so (patch embedding), else 1."""
    q = layer.weight_quantizer
    return 3 if q.role == "qkv" else 1 if q.axis is None else len(layer.weight)
