"""Batches of samples: how many they hold, and some of them as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Batch = Any  # whatever a task's models take as one input, usually a tensor (B, 3, H, W)


def samples_in(batch: Batch) -> int:
    """How many samples a batch has: a tensor (B, ...), a list of samples, or a dictionary of such."""
    return samples_in(next(iter(batch.values()))) if isinstance(batch, Mapping) else len(batch)


def joined(batches: Sequence[Batch], count: int) -> Batch:
    """The first `count` samples of the batches as one batch; of dictionaries, which have no order, the first batch."""
    from torch import Tensor, cat

    if isinstance(batches[0], Mapping):
        return batches[0]
    picked, have = [], 0
    for batch in batches:
        picked.append(batch[: count - have])
        have += len(picked[-1])
        if have >= count:
            break
    return cat(picked) if isinstance(picked[0], Tensor) else [sample for part in picked for sample in part]
