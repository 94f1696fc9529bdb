"""PTQ4ViT: post-training quantization for vision transformers with twin uniform quantization (Yuan et al., ECCV 2022).

Symmetric quantizers; scales on a grid, weights and inputs in turn, by the squared error of a layer's output weighted
with the squared gradient of a loss. Every layer is searched on full-precision inputs. The authors' loss compares the
model with itself, so its gradient is 0 but for float noise; here labels are drawn from the model's own softmax
(`probe`). The twin softmax decodes without the authors' shift (`official_sum` restores it), and zero takes no second
code of the twin GELU. BasePTQ is `metric=cosine,start=0.5,rounds=1,twin=off`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiqvit.interfaces import Job, Method
from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantConv2d, QuantLayer, QuantMatMul
from aiqvit.quant.observers import MinMax
from aiqvit.quant.quantizers import Float, Uniform
from aiqvit.quant.surgery import observe_rest, quantize_model
from aiqvit.quant.twin import Splits, TwinGelu, TwinSoftmax
from aiqvit.recon.capture import device_of, first_images
from aiqvit.recon.gradients import Trace, probe_loss, traces
from aiqvit.recon.scale_search import Grid, Metric, group_maxima, output_error, search_range


@dataclass(frozen=True)
class PTQ4ViT(Method):
    """Twin uniform quantizers and Hessian-guided scales."""

    title: ClassVar[str] = "PTQ4ViT"
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"rounds": 2, "score_rows": 768, "score_images": 8},
        "smoke": {"images": 4, "steps": 6, "rounds": 1, "score_rows": 64, "score_images": 2},
    }

    images: int = 32
    start: float = 0.01  # eq_alpha: least multiple of the base scale
    end: float = 1.2  # eq_beta
    steps: int = 100  # eq_n
    rounds: int = 3
    metric: Metric = "hessian"
    probe: Literal["sampled", "pseudo_label"] = "sampled"  # loss behind the gradients
    twin: bool = True  # twin quantizers post-Softmax and post-GELU; off: plain ones
    official_sum: bool = False
    score_rows: int = 0  # tokens (rows of a layer's input) that score a candidate, drawn at random; 0: all
    score_images: int = 0  # images that score a candidate of an attention product; 0: all
    protocol: Literal["unified", "paper"] = "unified"  # paper: the image is not quantized

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: seconds."""
        model, generator = quantize_model(job.model, self.scheme(job)), torch.Generator().manual_seed(job.seed)
        done: set[nn.Module] = set()
        for unit in [*job.units, ""]:  # what lies outside all units comes last
            began = time.perf_counter()
            wanted = [m for m in model.get_submodule(unit).modules()
                      if isinstance(m, QuantLayer | QuantMatMul) and m not in done]
            if wanted:
                loss = partial(probe_loss, generator=generator, probe=self.probe)
                found = traces(model, unit, wanted, [first_images(job, self.images)], job.forward, loss)
                for module, trace in job.progress(list(found.items()), unit or "other layers"):
                    self.search(module, trace, generator)
                done.update(wanted)
                job.log.append({"unit": unit or "other layers", "seconds": round(time.perf_counter() - began, 2)})
        for _, quantizer in sites(model):
            quantizer.mode = "off" if quantizer.role == "image" else "on"
        observe_rest(model, lambda m: job.forward(m, first_images(job, self.images)))
        return model

    def scheme(self, job: Job) -> dict:
        """Role -> quantizer."""
        w, a = job.bits.weight, job.bits.activation
        scheme = {
            "weight": lambda: Uniform(w, observer=MinMax(), symmetric=True),
            "weight:qkv": lambda: Uniform(w, 0, MinMax(), symmetric=True),
            "weight:patch_embed": lambda: Uniform(w, 0, MinMax(), symmetric=True),
            "activation": lambda: Uniform(a, observer=MinMax(), symmetric=True),
            "image": Float if self.protocol == "paper" else lambda: Uniform(8, observer=MinMax()),
        }
        if self.twin:
            scheme |= {"post_softmax": lambda: TwinSoftmax(a, official_sum=self.official_sum),
                       "post_gelu": lambda: TwinGelu(a, MinMax())}
        return scheme

    def search(self, module: nn.Module, trace: Trace, generator: torch.Generator) -> None:
        """Set the ranges of one layer's or product's two operands."""
        if isinstance(module, QuantMatMul):
            self.search_product(module, trace)
        else:
            self.search_layer(module, trace, generator)

    def search_layer(self, layer: QuantLayer, trace: Trace, generator: torch.Generator) -> None:
        """Weights and input in turn; the weights of qkv in three groups of rows, of a convolution row by row."""
        x, weight, gradient = as_rows(layer, trace)
        if self.score_rows and len(x) > self.score_rows:
            rows = torch.randperm(len(x), generator=generator)[: self.score_rows].to(x.device)
            x, gradient = x[rows], gradient[rows]
        raw, q_x, q_w = x @ weight.T, layer.input_quantizer, layer.weight_quantizer
        groups = groups_of_rows(layer)
        q_w.note = "3 groups of rows" if groups == 3 else ""
        x_high, w_high = group_maxima(trace.inputs[0]).to(x), group_maxima(weight, groups)
        shape = (-1, *[1] * (layer.weight.dim() - 1))

        def widen(high: Tensor) -> Tensor:  # (groups,) to (out, 1, ...), or (1,) for the tensor
            return high if q_w.axis is None else high.repeat_interleave(len(weight) // groups).reshape(shape)

        fixed = q_x.role == "image"
        if not fixed:
            q_x.set_range(-x_high, x_high)
        for _ in range(self.rounds):
            x_hat = x if fixed else q_x.fake(x)
            search_range(q_w, self.candidates(w_high), lambda: output_error(
                raw, x_hat @ q_w.fake(layer.weight).flatten(1).T, gradient, self.metric, groups), widen)  # noqa: B023
            if fixed:
                return
            w_hat = q_w.fake(layer.weight).flatten(1)
            search_range(q_x, self.candidates(x_high), lambda: output_error(
                raw, q_x.fake(x) @ w_hat.T, gradient, self.metric))  # noqa: B023

    def search_product(self, product: QuantMatMul, trace: Trace) -> None:
        """Left and right operand in turn; V stays in full precision while the post-Softmax map is searched."""
        count, device = self.score_images or None, device_of(product)
        left, right, gradient = (t[:count].to(device) for t in (*trace.inputs, trace.gradient))
        q_l, q_r = product.left_quantizer, product.right_quantizer
        highs = [group_maxima(t).to(device) for t in trace.inputs]
        for quantizer, high in zip((q_l, q_r), highs, strict=True):
            quantizer.set_range(-high, high)

        def multiply(a: Tensor, b: Tensor) -> Tensor:  # (n, M)
            return (a @ (b.transpose(-2, -1) if product.transposed else b)).flatten(0, -2)

        raw, gradient = multiply(left, right), gradient.flatten(0, -2)
        twin = isinstance(q_l, TwinSoftmax)
        lefts = [high for _, high in Splits().ranges(highs[0][None])] if twin else self.candidates(highs[0])
        for _ in range(self.rounds):
            other = right if q_l.role == "post_softmax" else q_r.fake(right)
            search_range(q_l, lefts, lambda: output_error(
                raw, multiply(q_l.fake(left), other), gradient, self.metric))  # noqa: B023
            a_hat = q_l.fake(left)
            search_range(q_r, self.candidates(highs[1]), lambda: output_error(
                raw, multiply(a_hat, q_r.fake(right)), gradient, self.metric))  # noqa: B023

    def candidates(self, high: Tensor) -> list[Tensor]:
        """Ranges to try around a base of (G,)."""
        return [high * factor for factor in Grid(self.start, self.end, self.steps).factors()]


def as_rows(layer: QuantLayer, trace: Trace) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (n, in), weights (out, in) and output gradients (n, out) of a layer; a convolution's windows are rows."""
    x, gradient, weight = trace.inputs[0], trace.gradient, layer.weight
    if isinstance(layer, QuantConv2d):
        if layer.groups != 1 or isinstance(layer.padding, str):
            raise ValueError("grouped convolutions and padding by name cannot be searched")
        x = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).transpose(1, 2)  # (B, n, in)
        gradient = gradient.flatten(2).transpose(1, 2)
    x, gradient = x.flatten(0, -2), gradient.flatten(0, -2)
    return x.to(weight.device), weight.flatten(1), gradient.to(weight.device)


def groups_of_rows(layer: QuantLayer) -> int:
    """How many scales a weight has: 3 for qkv, one a channel for a convolution, otherwise 1."""
    role = layer.weight_quantizer.role
    return 3 if role == "qkv" else len(layer.weight) if isinstance(layer, QuantConv2d) else 1


