"""Where the right class stands among a classifier's outputs."""

from __future__ import annotations

import torch
from torch import Tensor


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the right one, (B,), for logits (B, classes) and labels (B,).

    Of equal outputs the first class comes first.
    """
    own = logits.gather(1, labels[:, None])  # (B, 1)
    tied = (logits == own) & (torch.arange(logits.shape[1]) < labels[:, None])  # or equal outputs score
    return ((logits > own) | tied).sum(1)


def accuracy(rank: Tensor) -> dict[str, float]:
    """`top1` and `top5` in percent."""
    return {f"top{k}": 100 * (rank < k).double().mean().item() for k in (1, 5)}
