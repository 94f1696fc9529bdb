"""APHQ-ViT's objective: squared error weighted by the average perturbation map of the unit's output.

Z. Wu et al., "APHQ-ViT" (CVPR 2025), https://arxiv.org/abs/2504.02508, Section 3.2, code
https://github.com/GoatWu/APHQ-ViT. The map is the mean over images of |H v|, with H the Hessian of the KL divergence at
temperature 20 (of other outputs than logits: half the squared error) in the output of the unit, at the output itself.
There H = J^T F J, J the Jacobian of the rest of the network and F the Hessian of the divergence in its output, so that
H v takes a directional derivative and a backward pass, and is no difference of nearly equal gradients.

The paper takes v = 1, the same change of all elements. That is what a LayerNorm takes away: in networks whose residual
stream is read through LayerNorms alone, H 1 = 0, and the code's difference of two float32 gradients is rounding noise.
Noise is spread by the same J^T F, so its size still says what the output depends on. Here v has random signs, which has
a meaning in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from aiqvit.recon.activations import Activations
from aiqvit.recon.capture import device_of
from aiqvit.recon.gradients import distance, tensors_of
from aiqvit.recon.objective import Objective
from aiqvit.recon.objectives.output_gradients import TEMPERATURE
from aiqvit.recon.tail import Tail
from aiqvit.recon.walk import UnitData

STEP = 1e-2  # of the directional derivative, times the root mean square of the output
BATCH = 16  # samples at once


@dataclass(frozen=True)
class PerturbationMap:
    """Mean over images of |H v| at a unit's output: a map for every shape of one sample."""

    maps: dict[torch.Size, Tensor]

    def weight(self, output: Tensor) -> Tensor:
        """The map (...) for outputs (B, ...); of a shape that was not seen, 1 number: the mean of all maps."""
        found = self.maps.get(output.shape[1:])
        if found is None:
            found = torch.stack([part.mean() for part in self.maps.values()]).mean()
        return found.to(output)

    def scaled(self) -> PerturbationMap:
        """The same with a mean square of 1; all 1 where it is 0 everywhere."""
        every = torch.cat([part.flatten() for part in self.maps.values()])
        size = every.square().mean().sqrt()
        return PerturbationMap({shape: part / size if size > 0 else torch.ones_like(part)
                                for shape, part in self.maps.items()})


def perturbation_map(tail: Tail, outputs: Activations, generator: Generator, images: int | None = None,
                     device: torch.device | str = "cpu") -> PerturbationMap:
    """The map of a unit's `outputs` behind which `tail` is the rest of the network, from its first `images` samples.

    Signs are drawn on the CPU. None of `images`: all samples.
    """
    sums: dict[torch.Size, Tensor] = {}
    counts: dict[torch.Size, int] = {}
    for rows in _batches(outputs, images):
        (output,), _ = outputs.gather(rows, device)
        signs = torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1
        found, shape = curvature(tail, output, rows, signs).abs().sum(0), output.shape[1:]
        sums[shape] = sums[shape] + found if shape in sums else found
        counts[shape] = counts.get(shape, 0) + len(rows)
    return PerturbationMap({shape: total / counts[shape] for shape, total in sums.items()})


def _batches(outputs: Activations, images: int | None) -> Iterator[list[int]]:
    """Never of two calibration batches: outputs of one shape may be of images of several."""
    for at, start in enumerate(outputs.starts):
        rows = list(range(start, min(start + outputs.size(at), images or len(outputs))))
        yield from (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))


def curvature(tail: Tail, output: Tensor, rows: Sequence[int], direction: Tensor) -> Tensor:
    """H v of each sample for a unit's output and a direction v, all (B, ...); H is that of each sample's own distance.

    The directional derivative is a central difference, as attention kernels may have no other.
    """
    step = STEP * output.square().mean().sqrt().clamp(min=torch.finfo(output.dtype).tiny)
    with torch.no_grad():
        ends = [tensors_of(tail(output + sign * step * direction, rows)) for sign in (1, -1)]
    slopes = [(high - low) / (2 * step) for high, low in zip(*ends, strict=True)]  # J v
    with torch.enable_grad():
        here = output.detach().clone().requires_grad_()
        given = tensors_of(tail(here.clone(), rows))  # what follows may work in place
        pulls = zip(given, divergence_products(given, slopes), strict=True)
        pulled = sum((tensor * pull).sum() for tensor, pull in pulls)
        if not pulled.requires_grad:  # nothing behind the unit depends on it
            return torch.zeros_like(output)
        return torch.autograd.grad(pulled, here)[0]


@torch.enable_grad()
def divergence_products(outputs: Sequence[Tensor], directions: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """F v: the Hessian of the distance from these outputs of the network, at themselves, times directions."""
    moved = [tensor.detach().clone().requires_grad_() for tensor in outputs]
    slopes = torch.autograd.grad(distance(moved, [t.detach() for t in outputs], TEMPERATURE), moved, create_graph=True)
    return torch.autograd.grad(slopes, moved, list(directions))


class Perturbation(Objective):
    """2 mean(map (output - target)^2) over its first value."""

    starts_at = 2.0

    def __init__(self, seed: int, images: int | None = None) -> None:
        """Average the map over the first `images` calibration images (None: all), signs drawn from `seed`."""
        self.seed, self.images = seed, images

    def start(self, data: UnitData) -> None:
        """See `Objective`."""
        draw = Generator().manual_seed(self.seed)
        self.map = perturbation_map(data.tail, data.targets, draw, self.images, device_of(data.unit))

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Objective`; (B, ...)."""
        return (output - target).square() * self.map.weight(output)
