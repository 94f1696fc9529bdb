"""Logits of an export against the floor: how far the torch model in float64 is from itself in float32.

Quantized models amplify a difference in the last digit to the same size whatever its origin, so an export cannot come
closer to torch than that, and one that is right comes as close.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aiqvit.deploy.proof.runtime import checked, plain, run, session
from aiqvit.interfaces import UserError

MEAN = 1.5  # times the floor's mean difference, at most
ROUNDING = 1e-5  # of the size of outputs: differences that small need no floor, nothing has flipped
POINTS = 0.03  # below the floor's agreement, at most; one image where there are few


@dataclass(frozen=True)
class Distance:
    """Between two sets of outputs of the same images."""

    mean: float
    largest: float
    agreement: float  # share of equal argmax over the last dimension
    size: float  # mean magnitude of what is expected

    def __str__(self) -> str:
        return f"mean {self.mean:.2g}, largest {self.largest:.2g}, {self.agreement:.1%} agree"


@dataclass(frozen=True)
class Floor:
    """The export against torch in float32, beside torch in float64 against torch in float32."""

    export: Distance
    floor: Distance
    images: int

    @property
    def missed(self) -> list[str]:
        """What misses its target, a sentence each."""
        found = []
        if not self.export.mean <= max(MEAN * self.floor.mean, ROUNDING * self.export.size):  # also for NaN
            found.append(f"the mean difference is more than {MEAN} times the floor")
        if self.export.agreement < self.floor.agreement - max(POINTS, 1 / self.images) - 1e-9:
            found.append(f"agreement is more than {POINTS:.0%} below the floor's")
        return found

    def __str__(self) -> str:
        text = f"on {self.images} images {self.export}; the floor (torch in float64 and float32): {self.floor}"
        return text + (f"; MISSED: {', '.join(self.missed)}" if self.missed else "")


@torch.no_grad()
def logit_floor(model: nn.Module, path: str | Path, images: Tensor, *, batch: int = 8,
                progress: Callable[..., Iterable] = plain) -> Floor:
    """Compare a quantized torch model with the file made of it and with itself in float64, on images (B, 3, H, W).

    Of several outputs all count; a classifier's are logits (B, classes). Raises `UserError` for a file that cannot be
    loaded or has other outputs.
    """
    model, images = checked(model, images)
    loaded, exact = session(path), deepcopy(model).double()
    exported, single, double = [], [], []
    for part in progress(list(images.split(batch)), "logits"):
        exported.append(run(loaded, part))
        single.append(_tensors(model(part)))
        double.append([value.float() for value in _tensors(exact(part.double()))])
    if [value.shape for value in exported[0]] != [value.shape for value in single[0]]:
        raise UserError(f"{str(path)!r} has outputs of other shapes than the model: it is not an export of it")
    return Floor(distance(exported, single), distance(double, single), len(images))


def distance(given: list[list[Tensor]], expected: list[list[Tensor]]) -> Distance:
    """Between outputs, batch by batch and tensor by tensor."""
    pairs = [pair for a, b in zip(given, expected, strict=True) for pair in zip(a, b, strict=True)]
    off = torch.cat([(a - b).abs().flatten() for a, b in pairs])
    equal = torch.cat([(a.argmax(-1) == b.argmax(-1)).flatten() for a, b in pairs])
    size = torch.cat([b.abs().flatten() for _, b in pairs]).mean()
    return Distance(off.mean().item(), off.max().item(), equal.float().mean().item(), size.item())


def _tensors(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output
    return [tensor for value in values for tensor in _tensors(value)]
