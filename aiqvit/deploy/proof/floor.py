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
from torch.utils._pytree import tree_leaves

from aiqvit.deploy.proof.runtime import checked, plain, run, session
from aiqvit.interfaces import UserError

MEAN = 1.5  # times the floor's mean difference, at most, but for one image: a code may flip in it by chance
ROUNDING = 1e-5  # of the size of outputs: differences that small need no floor, nothing has flipped
POINTS = 0.03  # below the floor's agreement, at most; one image where there are few


@dataclass(frozen=True)
class Distance:
    """Between two sets of outputs of the same images."""

    mean: float
    rest: float  # mean without the image that is farthest off
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
        if not self.export.rest <= max(MEAN * self.floor.mean, ROUNDING * self.export.size):  # also for NaN
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
        exported.append(_tensors(run(loaded, part)))
        single.append(_tensors(model(part)))
        part = part.double() if part.is_floating_point() else part
        double.append(_tensors(exact(part)))
    if [value.shape for value in exported[0]] != [value.shape for value in single[0]]:
        raise UserError(f"{str(path)!r} has outputs of other shapes than the model: it is not an export of it")
    return Floor(distance(exported, single), distance(double, single), len(images))


def distance(given: list[list[Tensor]], expected: list[list[Tensor]]) -> Distance:
    """Between outputs, batch by batch and tensor by tensor."""
    pairs = [pair for a, b in zip(given, expected, strict=True) for pair in zip(a, b, strict=True)]
    rows = torch.cat([_apart(a, b) for a, b in zip(given, expected, strict=True)])
    equal = torch.cat([(a.argmax(-1) == b.argmax(-1)).flatten() for a, b in pairs])
    size = torch.cat([b.abs().flatten() for _, b in pairs]).mean()
    largest = max((a - b).abs().max().item() for a, b in pairs)
    rest = (rows.sum() - rows.max()) / (len(rows) - 1) if len(rows) > 1 else rows.mean()  # NaN stays NaN
    return Distance(rows.mean().item(), rest.item(), largest, equal.float().mean().item(), size.item())


def _apart(given: list[Tensor], expected: list[Tensor]) -> Tensor:
    """Mean difference of each sample of a batch (B,), or one of all, where an output has not one row a sample."""
    off = [torch.atleast_1d((a - b).abs()) for a, b in zip(given, expected, strict=True)]
    if len({len(part) for part in off}) > 1:
        off = [part.reshape(1, -1) for part in off]
    return torch.cat([part.flatten(1) if part.dim() > 1 else part[:, None] for part in off], 1).mean(1)


def _tensors(output: object) -> list[Tensor]:
    """All of an output, in float32."""
    return [leaf.float() for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
