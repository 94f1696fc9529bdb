"""Ridge regression in closed form for the errors of quantized activations and weights of one layer.

ERQ: error reduced quantization (Zhong et al., ICML 2024, https://arxiv.org/abs/2407.06794; TPAMI 2025). A weight is
(out, in + 1) here, its last column the bias; Gram matrices count that column's input, which is 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aiqvit.interfaces import Diverged
from aiqvit.recon.layerwise import Gram
from aiqvit.recon.levels import Levels

FLOOR = 1e-6  # least ridge, as a share of the largest diagonal element: a sum in float32 is not quite definite


def solve(gram: Tensor, ridge: float, right: Tensor) -> Tensor:
    """(gram + ridge I)^-1 right, of (n, n) and (n, m), in float64 by a Cholesky factor; ridge is at least `FLOOR`."""
    return torch.cholesky_solve(right, factored(gram, max(ridge, FLOOR * gram.diagonal().amax().item(), 1e-12)))


def factored(gram: Tensor, ridge: float = 0.0, upper: bool = False) -> Tensor:
    """The Cholesky factor of gram + ridge I, (n, n), float64; where there is none, of the least larger ridge tried.

    Raises `Diverged` where gram is not finite.
    """
    if not gram.isfinite().all():
        raise Diverged("the products of a layer's inputs are not finite")
    unit = torch.eye(len(gram)).to(gram)
    while True:
        factor, failed = torch.linalg.cholesky_ex(gram + ridge * unit, upper=upper)
        if not failed:
            return factor
        ridge = max(2 * ridge, FLOOR * gram.diagonal().abs().amax().item(), 1e-12)


@torch.no_grad()
def reduce_activation_error(weight: Tensor, gram: Gram, ridge: float) -> Tensor:
    """The weight W + D of least |X W^T - Q(X) (W + D)^T|^2 + ridge |D|^2, float64 (ERQ Eq. 8)."""
    quantized, weight = gram.quantized.double(), weight.double()
    missing = (gram.mixed.double() - quantized) @ weight.T  # Q(X)^T (X - Q(X)) W^T, (in + 1, out)
    return weight + solve(quantized, ridge, missing).T


@torch.no_grad()
def reduce_weight_error(weight: Tensor, levels: Levels, gram: Gram, ridge: float, steps: int = 100) -> Tensor:
    """Quantize a weight half by half; what is still in full precision makes up for each error (ERQ Eq. 12).

    Half of the remaining columns, in their order, is rounded, at first to nearest, then by at most `steps` moves of
    `refine`; the others and the bias, which stays in full precision, get the ridge solution. Returns float64 values,
    all but the last column on the grid of `levels`.
    """
    weight, products = weight.double().clone(), gram.quantized.double()
    done, width = 0, weight.shape[1]
    while width - done > 1:
        half = done + (width - done) // 2
        part, rest = slice(done, half), slice(half, width)
        grid, old = levels.columns(part), weight[:, part]
        error, floor, ceil = (grid.quantize(old, r) - old for r in (torch.round, torch.floor, torch.ceil))
        if steps:
            error = refine(error, floor, ceil, products[part, part] / max(gram.rows, 1), steps)
        weight[:, rest] -= solve(products[rest, rest], ridge, products[rest, part] @ error.T).T
        weight[:, part] = grid.quantize(old + error)
        done = half
    return weight


def refine(error: Tensor, floor: Tensor, ceil: Tensor, moment: Tensor, steps: int) -> Tensor:
    """Rounding refinement: lower d^T C d for each row d of `error`, one element a step (ERQ Eqs. 15 to 18).

    `floor` and `ceil` are the two errors that each element may have, (out, n); `moment` is C, the second moment of the
    inputs, (n, n). Among the elements whose error has the sign of its gradient 2 C d, that of the largest gradient
    takes the error nearer to d minus its gradient; a row ends where that changes nothing or makes d^T C d larger.
    """
    error = error.clone()
    gradient = 2 * error @ moment
    curvature = moment.diagonal()
    for _ in range(steps):
        size, column = (gradient.abs() * (error * gradient > 0)).max(1, keepdim=True)  # (out, 1)
        now, slope = error.gather(1, column), gradient.gather(1, column)
        low, high = floor.gather(1, column), ceil.gather(1, column)
        aim = now - slope
        move = torch.where((aim - high).abs() <= (aim - low).abs(), high, low) - now
        change = move * (slope + move * curvature[column])
        move = torch.where((size > 0) & (change <= 0), move, torch.zeros_like(move))
        if not move.any():
            break
        error.scatter_add_(1, column, move)
        gradient += 2 * move * moment[column[:, 0]]
    return error
