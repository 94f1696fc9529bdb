"""LS-ViT's objective: a diagonal and a rank-one Hessian fitted to gradients over images by least squares.

LS-ViT (CVPR 2026), https://github.com/hhh7748/LS-ViT, as far as summaries of it tell. One pass before a unit is trained
gives of each image n the gradient g_n = dKL/dz_q at the unit's output and its error d_n = z_q - z, both signed. g = H d
is fitted over images:

    H_i = sum_n g_ni d_ni / sum_n d_ni^2, at least 0;  u = sum_n s_n g_n sqrt(d_n . g_n) / sum_n d_n . g_n

over the images with d_n . g_n > 0, s_n the sign that aligns g_n with the top right singular vector of the stacked g:
as written, without signs, gradients of both signs cancel. L = 1/2 sum_i H_i e_i^2 + 1/2 (u . e)^2 of an image's error
e. Not stated, and chosen: the unit has full-precision inputs and nothing is dropped while gradients are taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.objective import Objective
from aiqvit.recon.objectives.output_gradients import OutputGradients
from aiqvit.recon.walk import UnitData


class LeastSquares(Objective):
    """L of each sample; the loop divides it by its first value."""

    def __init__(self, images: int | None = None) -> None:
        """Fit on the first `images` calibration images (None: all)."""
        self.images = images

    def start(self, data: UnitData) -> None:
        """See `Objective`."""
        found = OutputGradients(data, self.images)
        sums: dict[int, Sums] = {}
        for group, errors, gradients in found.passes():
            sums.setdefault(group, Sums(data.targets.store)).add(errors.flatten(1), gradients.flatten(1))
        self.group_of = found.group_of
        self.fits = {group: (part.diagonal(), part.vector()) for group, part in sums.items()}

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Objective`; (B,)."""
        error = (output - target).flatten(1)
        diagonal, vector = (part.to(error.device) for part in self.fits[self.group_of[rows[0]]])
        return 0.5 * (error.square() @ diagonal + (error @ vector).square())


class Sums:
    """Of images of one shape: what the fits need. Gradients count in the memory bound of activations."""

    def __init__(self, store: ActivationStore) -> None:
        self.store = store
        self.products: Tensor | float = 0.0  # sum of g d, (N,)
        self.squares: Tensor | float = 0.0  # sum of d^2, (N,)
        self.gradients: list[Tensor] = []  # (B, N) of each batch
        self.dots: list[Tensor] = []  # g . d of each image, (B,)

    def add(self, errors: Tensor, gradients: Tensor) -> None:
        """Errors and gradients of a batch, (B, N)."""
        products = gradients * errors
        self.products = self.products + products.sum(0)
        self.squares = self.squares + errors.square().sum(0)
        self.dots.append(products.sum(1).cpu())
        self.gradients.append(self.store.keep(gradients.cpu()))

    def diagonal(self) -> Tensor:
        """H, (N,); 0 where no image has an error."""
        return (self.products / self.squares.clamp(min=torch.finfo(self.squares.dtype).tiny)).clamp(min=0)

    def vector(self) -> Tensor:
        """u, (N,); zeros where no image has d . g > 0."""
        dots = torch.cat(self.dots).clamp(min=0)
        signs = alignment(self.gradients)
        weights = signs * dots.sqrt() / dots.sum().clamp(min=torch.finfo(dots.dtype).tiny)  # (n,)
        parts = weights.split([len(part) for part in self.gradients])
        return sum(weight @ part for weight, part in zip(parts, self.gradients, strict=True))


def alignment(parts: Sequence[Tensor]) -> Tensor:
    """The sign of each row's product with the top right singular vector of all rows, (n,), from the Gram matrix.

    `parts` are the rows in batches (B, N). As these products are the entries of the left singular vector times a
    positive number, their signs are those of the Gram matrix's top eigenvector.
    """
    gram = torch.cat([torch.cat([a @ b.T for b in parts], 1) for a in parts])  # (n, n)
    return torch.linalg.eigh(gram.double() / gram.abs().max().clamp(min=1e-30))[1][:, -1].sign().to(gram)
