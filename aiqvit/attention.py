"""Post-Softmax values of a real model and where the quantizers put their levels: the data of AIQViT's Figure 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Subject, Task
from aiqvit.quant.observers import FocusGrid, MinMax
from aiqvit.quant.quantizers import (
    DynamicFocusing,
    Float,
    Log2,
    LogSqrt2,
    Quantizer,
    ShiftUniformLog2,
    TwinSoftmax,
    Uniform,
)
from aiqvit.quant.quantizers.base import Measure
from aiqvit.quant.site import by_role, spec
from aiqvit.quant.surgery import calibrate

# the method that uses it (it gives the colour) -> name and quantizer
QUANTIZERS: dict[str, tuple[str, Callable[[int], Quantizer]]] = {
    "minmax": ("uniform (MinMax)", lambda bits: Uniform(bits, observer=MinMax())),
    "fp32": ("log2", Log2),
    "repqvit": ("log-sqrt2 (RepQ-ViT)", LogSqrt2),
    "ptq4vit": ("twin (PTQ4ViT)", TwinSoftmax),
    "isvit": ("shift-uniform-log2 (I&S-ViT)", ShiftUniformLog2),
    "aiqvit": ("dynamic focusing (AIQViT)", lambda bits: DynamicFocusing(bits, observer=FocusGrid())),
}


@dataclass(frozen=True)
class Levels:
    """A quantizer's levels for the values of one attention layer, and the error it makes there."""

    method: str
    label: str
    values: list[float]  # sorted, each once
    error: float  # of the product A V, relative


class Tap(Float):
    """Keeps what passes, and the product in which it is used."""

    def calibrate(self, x: Tensor, measure: Measure | None = None) -> None:
        """Called once a site, in the full-precision forward pass."""
        self.seen, self.product = x, measure


@torch.no_grad()
def post_softmax(task: Task, subject: Subject, images: int = 8) -> list[Tap]:
    """The attention maps (B, H, N, N) of all layers in full precision, over calibration images."""
    plain = {"default": spec(Float, 32)}
    model = quantize_model(subject.model, by_role(plain, {**plain, "post_softmax": spec(Tap, 8)}))
    batch = task.calibration(subject, images, 0)[0]
    calibrate(model, lambda net: task.forward(net, batch), images=len(batch))
    return [module for module in model.modules() if isinstance(module, Tap) and hasattr(module, "seen")]


@torch.no_grad()
def levels(tap: Tap, bits: int) -> list[Levels]:
    """Every quantizer's levels, its range found on the tapped map as the methods find it before reconstruction."""
    target = tap.product(tap.seen)
    found = []
    for method, (label, make) in QUANTIZERS.items():
        quantizer = make(bits)
        quantizer.calibrate(tap.seen, tap.product)
        codes = torch.arange(quantizer.levels, dtype=torch.int32)
        error = (tap.product(quantizer.fake(tap.seen)) - target).square().sum() / target.square().sum()
        found.append(Levels(method, label, sorted(set(quantizer.decode(codes).flatten().tolist())), error.item()))
    return found
