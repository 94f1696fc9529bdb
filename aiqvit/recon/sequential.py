"""Rounding column by column: what is not yet rounded makes up for the errors so far (GPTQ) and before (GPTAQ).

GPTAQ: efficient finetuning-free quantization for asymmetric calibration (Li et al., ICML 2025,
https://arxiv.org/abs/2504.02692), on GPTQ (Frantar et al., ICLR 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from aiqvit.recon.layerwise import Gram
from aiqvit.recon.levels import Levels
from aiqvit.recon.ridge import factored


@torch.no_grad()
def round_sequentially(weight: Tensor, levels: Levels, gram: Gram, alpha: float = 0.25, damping: float = 0.1,
                       block: int = 128) -> Tensor:
    """The weight (out, in) on the grid of `levels`, float64.

    With H = q q^T and D = (x - q) q^T of the layer's inputs on the two paths, columns are rounded in descending order
    of H's diagonal. Rounding column i by e leaves to those after it the changes d of least
    |e q_i + d q_> - alpha w_i (x_i - q_i)|^2: alpha 0 is GPTQ, 1 the derivation, 0.25 what the authors' code has for
    ViTs. H is damped by `damping` times the mean of its diagonal. Columns that never have an input become 0. Updates
    beyond a block of `block` columns are made once a block.
    """
    hessian = gram.quantized.double()
    drift = gram.mixed.double().T - hessian  # D, (in, in)
    order = hessian.diagonal().argsort(descending=True, stable=True)
    hessian, drift, levels = hessian[order][:, order], drift[order][:, order], levels.columns(order)
    weight = weight.double()[:, order]
    dead = hessian.diagonal() == 0
    hessian.diagonal()[dead] = 1.0
    weight[:, dead] = 0.0
    hessian.diagonal().add_(damping * hessian.diagonal().mean())
    upper, pull = _factors(hessian, drift, alpha)
    rounded = torch.empty_like(weight)
    for start in range(0, weight.shape[1], block):
        part, rest = slice(start, min(start + block, weight.shape[1])), slice(start + block, None)
        rounded[:, part], error = _round_block(weight[:, part], levels.columns(part), upper[part, part],
                                               pull[part, part])
        weight[:, rest] -= error @ upper[part, rest] - weight[:, part] @ pull[part, rest]
    return rounded[:, order.argsort()]


def _factors(hessian: Tensor, drift: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """U, upper triangular, with H^-1 = U^T U, and P = alpha striu(D U^T) U: what each column does to those after it."""
    upper = factored(torch.cholesky_inverse(factored(hessian)), upper=True)
    return upper, alpha * (drift @ upper.T).triu(1) @ upper


def _round_block(weight: Tensor, levels: Levels, upper: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """Round the columns of `weight` (out, n), which is left with the values that were rounded; also errors / U_ii."""
    rounded, errors = torch.empty_like(weight), torch.empty_like(weight)
    for i in range(weight.shape[1]):
        value = weight[:, i : i + 1]
        rounded[:, i : i + 1] = levels.columns(slice(i, i + 1)).quantize(value)
        errors[:, i : i + 1] = (value - rounded[:, i : i + 1]) / upper[i, i]
        after = slice(i + 1, None)
        weight[:, after] -= errors[:, i : i + 1] * upper[i, after] - value * pull[i, after]
    return rounded, errors
