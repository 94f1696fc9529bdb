"""FIMA-Q's objective: a low-rank and a diagonal approximation of the Fisher matrix, renewed while a unit is trained.

FIMA-Q: post-training quantization for vision transformers by Fisher information matrix approximation (Wu et al., CVPR
2025), https://arxiv.org/abs/2506.11543, code https://github.com/ShiheWang/FIMA-Q. At a refresh the mean over images of
|dKL/dz_q| at a unit's output, and of |z_q - z|, become one more row of G and D (m, N). With e = |output - target| of an
image,

    L = L_lr / L_lr0 + L_diag / L_diag0,  L_lr = a (D D^T)^-1 a^T,  a = e G^T,  L_diag = mean(e^2 mean of G's rows),

L_lr0 and L_diag0 those of the first mini-batch behind a refresh. The unit is refreshed as it trains, its rounding soft
and its quantizers dropped at random; all else is in full precision. (D D^T)^-1 is what the code has; G^T (G D^T)^-1 G
is exact where the Fisher matrix has rank m (`exact`). Without gradients, that is where a unit is judged rather than
trained, the curvature stays that of the unit before training, so that values before and after can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.objective import Objective
from aiqvit.recon.objectives.output_gradients import OutputGradients
from aiqvit.recon.walk import UnitData

LEAST = 1e-30  # of a first value that a term is divided by: without gradients or errors it is 0 and stays so
RIDGE = 1e-6  # times the mean of the diagonal: rows of mean |z_q - z| are nearly parallel


class FIMA(Objective):
    """The two normalised terms, one sum a sample; the first mini-batch behind a refresh has 2."""

    starts_at = 2.0

    def __init__(self, steps: int, refreshes: int = 15, images: int | None = None, exact: bool = False) -> None:
        """Refresh every floor(`steps` / `refreshes`) steps from step 0 on, from the first `images` (None: all).

        `refreshes` is k, 15 in the paper, 5 by default in the code.
        """
        self.period, self.images, self.exact = max(steps // max(refreshes, 1), 1), images, exact

    def start(self, data: UnitData) -> None:
        """See `Objective`."""
        self.store = data.targets.store
        self.gradients = OutputGradients(data, self.images)
        self.before = self._extended({}, dropping=False)
        self.now: dict[int, Curvature] = {}

    def update(self, step: int) -> None:
        """See `Objective`."""
        if step % self.period == 0:
            self.now = self._extended(self.now, dropping=True)

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Objective`; (B,)."""
        curvatures = self.now if torch.is_grad_enabled() else self.before
        return curvatures[self.gradients.group_of[rows[0]]]((output - target).flatten(1).abs())

    def _extended(self, old: dict[int, Curvature], dropping: bool) -> dict[int, Curvature]:
        """The curvature of each group of images of one shape, with one more row from the unit as it is now."""
        sums: dict[int, tuple] = {}  # images, sum of |gradient|, sum of |error|
        for group, errors, gradients in self.gradients.passes(dropping):
            more = len(errors), gradients.flatten(1).abs().sum(0), errors.flatten(1).abs().sum(0)
            sums[group] = tuple(a + b for a, b in zip(sums[group], more, strict=True)) if group in sums else more
        return {group: Curvature.joined(old.get(group), g / count, d / count, self.store, self.exact)
                for group, (count, g, d) in sums.items()}


class Curvature:
    """The two terms of images of one shape, divided by their means over the first batch."""

    def __init__(self, gradients: Tensor, errors: Tensor, exact: bool = False) -> None:
        """G and D, both (m, N)."""
        self.gradients, self.errors = gradients, errors
        self.diagonal = gradients.mean(0)  # (N,)
        self.core = core(gradients, errors, exact)
        self.firsts: tuple[Tensor, ...] = ()

    @classmethod
    def joined(cls, old: Curvature | None, gradient: Tensor, error: Tensor, store: ActivationStore,
               exact: bool) -> Curvature:
        """With one more row of each, (N,), below those of `old`; rows count in the memory bound of activations."""
        kept = ([], []) if old is None else (old.gradients, old.errors)
        rows = (torch.stack([*above, row.cpu()]) for above, row in zip(kept, (gradient, error), strict=True))
        return cls(*map(store.keep, rows), exact)

    def __call__(self, error: Tensor) -> Tensor:
        """|output - target| (B, N) to (B,)."""
        terms = self.terms(error)
        if not self.firsts:
            self.firsts = tuple(term.detach().mean() for term in terms)
        return sum(term / first if first > LEAST else term for term, first in zip(terms, self.firsts, strict=True))

    def terms(self, error: Tensor) -> tuple[Tensor, Tensor]:
        """The low-rank and the diagonal term as they are, (B,) each."""
        a = (error @ self.gradients.to(error.device).T).double()  # (B, m); D D^T is nearly singular
        low_rank = (a @ self.core.to(error.device) * a).sum(1).to(error)
        return low_rank, (error.square() * self.diagonal.to(error.device)).mean(1)


def core(gradients: Tensor, errors: Tensor, exact: bool = False) -> Tensor:
    """What stands between G^T and G, (m, m) in float64: (D D^T)^-1, or if `exact` the positive part of (G D^T)^-1."""
    gram = (gradients if exact else errors).double() @ errors.double().T
    ridge = (RIDGE * gram.diagonal().mean()).clamp(min=torch.finfo(torch.float32).tiny)
    if not exact:
        return torch.linalg.inv(gram + ridge * torch.eye(len(gram), device=gram.device))
    values, vectors = torch.linalg.eigh((gram + gram.T) / 2)
    return vectors * torch.where(values > ridge, 1 / values, 0.0) @ vectors.T
