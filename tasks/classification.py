"""What a classifier says of each sample, and how often it is right."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aiqvit.interfaces import Outcomes

TOP = 5  # classes that are kept of each sample


def said(logits: Tensor, labels: Tensor, plain: Tensor | None = None) -> dict[str, np.ndarray]:
    """`label` (B,), `top5` (B, 5), the classes of the largest logits, of equal ones the first; of logits (B, classes).

    With full precision's logits `plain` also `plain` (B,), its class, and `kl` (B,) float32: the Kullback-Leibler
    divergence sum p log(p / q) in nats, p of full precision and q of this model.
    """
    found = {"label": _small(labels), "top5": _small(_order(logits))}
    if plain is not None:
        p, q = (values.double().log_softmax(1) for values in (plain, logits))
        divergence = (p.exp() * (p - q)).sum(1).clamp(min=0)
        found |= {"plain": _small(_order(plain)[:, 0]), "kl": divergence.float().numpy()}
    return found


def accuracy(outcomes: Outcomes, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`top1` and `top5` in percent for weights (B, N), NaN where samples have no label; see `faithfulness`."""
    found, label = outcomes.arrays, outcomes.arrays["label"]
    right = found["top5"] == label[:, None]  # (N, 5)
    unknown = np.where(label < 0, np.nan, 0.0)
    tops = {f"top{k}": 100 * mean(right[:, :k].any(1) + unknown, weights) for k in (1, TOP)}
    return tops | faithfulness(outcomes, weights)


def faithfulness(outcomes: Outcomes, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`agreement`, percent of samples with full precision's class, and `kl` in nats; nothing where it was not there."""
    found = outcomes.arrays
    if "plain" not in found:
        return {}
    same = found["top5"][:, 0] == found["plain"]
    return {"agreement": 100 * mean(same, weights), "kl": mean(found["kl"], weights)}


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean (B,) of values (N,) for weights (B, N)."""
    return weights @ values.astype(float) / weights.sum(1)


def class_mean(labels: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean (B,) over classes of the mean of each one's values; classes without samples in a weighting are left out.
    """
    member = (labels[:, None] == np.unique(labels)).astype(float)  # (N, classes)
    count = weights @ member  # (B, classes)
    with np.errstate(invalid="ignore"):
        means = (weights * values) @ member / count
    return np.nanmean(means, axis=1)


def _order(logits: Tensor) -> Tensor:
    """The classes (B, 5) of the largest logits, fewer where there are fewer."""
    return logits.argsort(dim=1, descending=True, stable=True)[:, :TOP]


def _small(classes: Tensor) -> np.ndarray:
    return classes.to(torch.int32).numpy()
