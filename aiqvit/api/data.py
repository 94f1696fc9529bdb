"""Samples handed over from Python: a tensor, a list of batches or a DataLoader."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from aiqvit.interfaces import UserError

Data: TypeAlias = Tensor | Iterable[Any]
TOGETHER = 32  # samples of a tensor in one batch
WANTED = ("expected a tensor (B, ...), a list of such batches or a DataLoader; torch.from_numpy makes one of an array, "
          "torch.stack one of a list of pictures, x[None] one of a picture")


def batches(data: Data, most: int | None = None) -> list[Tensor]:
    """Batches of inputs, the first `most` samples of them; labels beside them are left out.

    Raises `UserError` for no samples, what is no tensor of numbers, and values that are not finite.
    """
    found, count = [], 0
    for batch, _ in labelled(data):
        batch = batch[: None if most is None else most - count]
        if not batch.isfinite().all():
            raise UserError(f"data: batch {len(found)} has values that are NaN or infinite")
        found.append(batch)
        count += len(batch)
        if most is not None and count >= most:
            break
    if not count:
        raise UserError(f"data has no samples: {WANTED}")
    return found


def warn_of_range(batch: Tensor) -> None:
    """Warn of pictures (B, 3, H, W) that look as if they had not been normalized."""
    if batch.dim() == 4 and batch.shape[1] == 3 and batch.min() >= 0 and batch.max() > 20:
        warnings.warn(f"data has values from {batch.min():.3g} to {batch.max():.3g}: are the pictures prepared as the "
                      "model takes them, normalized with its mean and std?", stacklevel=3)


def labelled(data: Data) -> Iterator[tuple[Tensor, Any]]:
    """Batches with what stands beside them, None where nothing does. Raises `UserError` for what is no tensor."""
    single = isinstance(data, Tensor)
    if isinstance(data, str | bytes | dict) or not isinstance(data, Iterable) or single and not data.dim():
        raise UserError(f"data is of {said(data)}: {WANTED}")
    for item in data.split(TOGETHER) if single else data:
        pair = isinstance(item, list | tuple)
        batch = item[0] if pair and item else item
        if not isinstance(batch, Tensor) or batch.dim() < 2 or batch.is_complex():
            raise UserError(f"data holds {said(batch)}: {WANTED}")
        if len(batch):
            yield batch, item[1] if pair and len(item) > 1 else None


def said(value: Any) -> str:
    """What a value is, in a message."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"the type {type(value).__name__}"


@torch.no_grad()
def check_input(model: nn.Module, batch: Tensor) -> None:
    """Run one sample. Raises `UserError` with the shape and the first line of what the model says against it."""
    try:
        model(batch[:1])
    except Exception as error:  # whatever a model of the user's raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        shape, kind = tuple(batch.shape), str(batch.dtype).removeprefix("torch.")
        raise UserError(f"data: {type(model).__name__} does not take a batch of shape {shape}, {kind}: {reason}"
                        "; give batches as the model takes them, pictures for example as float32 (B, 3, 224, 224)"
                        ) from error
