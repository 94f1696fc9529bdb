"""APQ-ViT: towards accurate post-training quantization for vision transformers (Ding et al., ACM MM 2022).

A reimplementation without official code; the paper's formulas are not at hand, so much of it is reconstructed:
quantizers and scale grid as in PTQ4ViT (twin codes post-GELU, unsigned ones for inputs without negative values), but
candidates are scored at the output of the block, by squared error times squared gradient, of which the smallest part is
left out in every sample ("bottom elimination", `rho`). Post-Softmax maps get asymmetric uniform codes, which keep the
largest probabilities ("Matthew effect"); the end of their range is searched like any other, since the whole range loses
nearly everything at 4 bits. Inputs of a block are those of full precision; layers are searched in forward order, the
others as they stand, not quantized at first. The three groups of rows of qkv keep their own base scales and share the
factor. Layers outside of all units (the heads of a detector) get the ranges of least squared error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from aiqvit.bounds import Count, Factor, Tries, Whole
from aiqvit.families.opening import open_model, quantize_model
from aiqvit.interfaces import Job, Method, UserError
from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantLayer
from aiqvit.quant.observers import MinMax, Shrink
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.quantizers import Float, Quantizer, Signed, TwinGelu, Uniform
from aiqvit.quant.site import QuantSpec, RoleScheme, Site, spec
from aiqvit.quant.surgery import calibrate, calibrate_remaining
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.capture import device_of, first, first_images, unit_inputs, unit_outputs
from aiqvit.recon.gradients import probe_loss, traces
from aiqvit.recon.scale_search import Grid, group_maxima, search_by_halving
from aiqvit.recon.walk import units_in

OUTSIDE = Shrink(power=2.0, elements=2**18)  # what is in no unit has no block output to be searched by


@dataclass(frozen=True)
class APQViT(Method):
    """Block-wise calibration with bottom elimination."""

    title: ClassVar[str] = "APQ-ViT"
    note: ClassVar[str] = "reimplementation, unverified: there is no official code."
    presets: ClassVar[dict[str, dict]] = {
        "paper": {},
        "quick": {"stride": 8, "rounds": 1},
        "smoke": {"images": 4, "steps": 4, "rounds": 1, "score_images": 2},
    }

    images: Count = 32
    start: Factor = 0.01  # least multiple of the base scale
    end: Factor = 1.2
    steps: Tries = 100
    stride: Count = 1  # 8, 4, 2: every so many candidates at first, then at half the stride beside the best; 1: all
    rounds: Tries = 3
    rho: Annotated[float, Interval(ge=0, lt=1)] = 0.5  # share of a sample's smallest contributions that is left out
    score_images: Whole = 0  # images that score a candidate; 0: all
    unsigned: bool = True  # unsigned codes for inputs that are never negative (behind a ReLU); off: symmetric
    protocol: Literal["unified", "paper"] = "unified"  # paper: the image is not quantized

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start >= self.end:
            raise UserError(f"start={self.start}: expected a number below end={self.end}")

    def quantize(self, job: Job) -> nn.Module:
        """See `Method`. One log entry a unit: the score at the end, seconds."""
        units = units_in(job, open_model(job.model))
        model = quantize_model(job.model, self.scheme(job, units), BitPolicy(job.bits, job.bit_rules))
        generator = torch.Generator().manual_seed(job.seed)
        images, count = first_images(job, self.images)
        for unit in units:
            began, module = time.perf_counter(), model.get_submodule(unit)
            loss = partial(probe_loss, generator=generator)
            gradient = traces(model, unit, [module], [images], job.forward, loss)[module].gradient
            inputs = unit_inputs(model, unit, [images], job.forward, ActivationStore(2**32))
            score = self.search(module, inputs, gradient, partial(job.progress, description=unit))
            for _, quantizer in sites(module):
                quantizer.mode = "off"  # the next unit is searched behind full precision
            job.log.append({"unit": unit, "score": score, "seconds": round(time.perf_counter() - began, 2)})
        for unit in units:
            for _, quantizer in sites(model.get_submodule(unit)):
                quantizer.mode = "on"
        calibrate_remaining(model, lambda m: job.forward(m, images), images=count)
        return model

    def scheme(self, job: Job, units: Sequence[str]) -> UnitScheme:
        """Role -> quantizer."""
        w, a = job.bits.weight, job.bits.activation
        rows = dict.fromkeys(("qkv", "patch_embed"), spec(Uniform, w, 0, MinMax(), symmetric=True))
        return UnitScheme({"default": spec(Uniform, w, None, MinMax(), symmetric=True), **rows}, {
            "default": spec(Signed, a, None, MinMax(), unsigned=self.unsigned),
            "post_softmax": spec(Uniform, a, None, MinMax()),
            "post_gelu": spec(TwinGelu, a, None, MinMax()),
            "image": spec(Float, 32) if self.protocol == "paper" else spec(Uniform, 8, None, MinMax()),
        }, tuple(units))

    def search(self, unit: nn.Module, inputs: Activations, gradient: Tensor, progress: Callable) -> float:
        """Set all ranges of a unit; return the last score."""
        raw, device = unit_outputs(unit, inputs, ActivationStore(2**32)), device_of(unit)
        everything, kwargs = inputs.gather(range(len(inputs)), device)
        calibrate(unit, lambda m: m(*everything, **kwargs), images=len(inputs))
        chosen = range(min(self.score_images or len(inputs), len(inputs)))
        args, kwargs = inputs.gather(chosen, device)
        (target,), _ = raw.gather(chosen, device)
        weight = gradient[: len(chosen)].to(device).square()

        def error() -> Tensor:
            with torch.no_grad():
                off = (first(unit(*args, **kwargs)) - target).square_().mul_(weight)
            return eliminated(off, self.rho).reshape(1)

        todo = list(searched(unit))
        for quantizer, _ in todo:
            quantizer.mode = "off"
        factors = [torch.full((1,), f, device=device) for f in Grid(self.start, self.end, self.steps).factors()]
        for _ in range(self.rounds):
            for quantizer, take in progress(todo):
                quantizer.mode = "on"
                search_by_halving(take, factors, error, self.stride)
        return error().item()


@dataclass(frozen=True)
class UnitScheme(RoleScheme):
    """A scheme by role in which the ranges of what lies outside all units are those of least squared error."""

    units: tuple[str, ...] = ()

    def __call__(self, site: Site) -> QuantSpec:
        """See `RoleScheme`."""
        found = super().__call__(site)
        inside = any(site.layer == unit or site.layer.startswith(f"{unit}.") for unit in self.units)
        return found if inside else replace(found, observer=OUTSIDE)


def eliminated(contributions: Tensor, rho: float) -> Tensor:
    """Sum of the contributions without the smallest share `rho` of each sample: (B, ...) to a scalar."""
    flat = contributions.flatten(1)
    keep = flat.shape[1] - int(rho * flat.shape[1])
    return flat.sum() if keep == flat.shape[1] else flat.topk(keep, dim=1, sorted=False).values.sum()


def searched(unit: nn.Module) -> Iterator[tuple[Quantizer, Callable[[Tensor], object]]]:
    """Quantizers of a unit in forward order, each with how it takes a multiple (1,) of the range it has now.

    Weights start from their largest values, a group each; images keep the whole range. Full precision is left alone.
    """
    layers = {id(layer.weight_quantizer): layer for layer in unit.modules() if isinstance(layer, QuantLayer)}
    for _, q in sites(unit):
        if q.role == "image" or not q.coded:
            continue
        if isinstance(q, TwinGelu):
            low, high = -q.high, q.high
        else:
            low, high = -q.scale * q.zero, q.scale * (2**q.bits - 1 - q.zero)
        if (layer := layers.get(id(q))) is not None:
            rows = len(layer.weight)
            groups = 3 if q.role == "qkv" else 1 if q.axis is None else rows
            high = group_maxima(layer.weight, groups)
            if q.axis == 0:
                high = high.repeat_interleave(rows // groups).reshape(-1, *[1] * (layer.weight.dim() - 1))
            low = -high
        yield q, lambda factor, q=q, low=low, high=high: q.set_range(factor * low, factor * high)
