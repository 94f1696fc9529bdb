"""Activations of many samples, within a memory bound: past it they go to disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from aiqvit.interfaces import UserError

Call = tuple[tuple, dict[str, Any]]  # arguments and keyword arguments of a module
SAMPLES = object()  # stands in a call for a tensor with samples along dim 0


class ActivationStore:
    """Keeps tensors in memory up to `limit` bytes in all; past that on disk, as memory-mapped unlinked files."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self.spilled = limit, 0, 0

    def keep(self, tensor: Tensor) -> Tensor:
        """The tensor itself, or a memory-mapped copy when it does not fit any more."""
        size = tensor.numel() * tensor.element_size()
        if self.used + size <= self.limit:
            self.used += size
            weakref.finalize(tensor, self._release, size)
            return tensor
        self.spilled += size
        return _mapped(tensor, size).copy_(tensor)

    def _release(self, size: int) -> None:
        self.used -= size


def _mapped(tensor: Tensor, size: int) -> Tensor:
    """An empty tensor of the same shape and type in a file that has no name any more, so that a kill leaves nothing.

    The disk is asked for all of it first, because a mapping that finds the disk full later kills the process. Raises
    `UserError` when it has no room.
    """
    try:
        handle, path = tempfile.mkstemp(prefix="aiqvit-")
        try:
            getattr(os, "posix_fallocate", lambda *_: None)(handle, 0, size)
            return torch.from_file(path, shared=True, size=tensor.numel(), dtype=tensor.dtype).view(tensor.shape)
        finally:
            os.close(handle)
            os.unlink(path)
    except OSError as error:
        raise UserError(f"{size / 2**20:.0f} MiB of activations have no room among the temporary files "
                        f"({error.strerror or error}): set a larger memory_gb, or TMPDIR to a larger disk") from error


class Activations:
    """Calls of a module in batches: tensors with samples along dim 0, and what all samples of a batch share.

    A tensor argument belongs to its samples when its first dimension is their number; a keyword argument only with four
    dimensions (a mask a sample): rotary embeddings and position biases, which may by chance be as long as the batch,
    are shared.
    """

    def __init__(self, store: ActivationStore) -> None:
        self.store = store
        self.batches: list[tuple[Tensor, ...]] = []
        self.calls_made: list[Call] = []  # with `SAMPLES` where the tensors of `batches` go
        self.shared: list[Hashable] = []  # equal where what is shared is equal
        self.starts: list[int] = []
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def append(self, args: tuple, kwargs: Mapping[str, Any] | None = None, count: int | None = None) -> None:
        """Add a call; tensors are detached and moved to the CPU. `count`: samples, by default of the first tensor."""
        tensors: list[Tensor] = []
        if count is None:
            count = next((len(a) for a in args if isinstance(a, Tensor)), 0)

        def place(value: Any, dims: int) -> Any:
            if not isinstance(value, Tensor):
                return value
            value = value.detach().cpu()
            if value.dim() >= dims and len(value) == count:
                tensors.append(self.store.keep(value))
                return SAMPLES
            return value

        call = tuple(place(a, 1) for a in args), {key: place(v, 4) for key, v in (kwargs or {}).items()}
        self._add(tuple(tensors), call, _identity(call), count)

    def _add(self, tensors: tuple[Tensor, ...], call: Call, shared: Hashable, count: int) -> None:
        self.batches.append(tensors)
        self.calls_made.append(call)
        self.shared.append(shared)
        self.starts.append(self.count)
        self.count += count

    def stackable(self, indices: Iterable[int]) -> list[list[int]]:
        """The named samples in groups that `gather` can join: of one shape, and called with the same besides."""
        groups: dict[Any, list[int]] = {}
        for index in indices:
            batch = bisect_right(self.starts, index) - 1
            shapes = tuple(tensor.shape[1:] for tensor in self.batches[batch])
            groups.setdefault((shapes, self.shared[batch]), []).append(index)
        return list(groups.values())

    def gather(self, indices: Iterable[int], device: torch.device | str = "cpu") -> Call:
        """The call of the named samples, all `stackable`, tensors concatenated along dim 0."""
        rows, batch = [], 0
        for index in indices:
            batch = bisect_right(self.starts, index) - 1
            at = index - self.starts[batch]
            rows.append([t[at : at + 1] for t in self.batches[batch]])
        return self._call(batch, [torch.cat(column).to(device) for column in zip(*rows, strict=True)], device)

    def calls(self, device: torch.device | str = "cpu") -> Iterable[Call]:
        """All calls batch by batch, in order."""
        for i, tensors in enumerate(self.batches):
            yield self._call(i, [t.to(device) for t in tensors], device)

    def zip(self, others: Activations) -> Activations:
        """Calls with the arguments of both, batch by batch; nothing is copied."""
        joined = Activations(self.store)
        both = zip(self.batches, others.batches, self.calls_made, others.calls_made, others.shared, strict=True)
        for i, (own, more, (args, kwargs), (args2, kwargs2), shared) in enumerate(both):
            call = args + args2, {**kwargs, **kwargs2}
            joined._add(own + more, call, (self.shared[i], shared), self.size(i))
        return joined

    def size(self, batch: int) -> int:
        """How many samples a batch has."""
        return (self.starts + [self.count])[batch + 1] - self.starts[batch]

    def _call(self, batch: int, tensors: list[Tensor], device: torch.device | str) -> Call:
        args, kwargs = self.calls_made[batch]
        feed = iter(tensors)

        def fill(value: Any) -> Any:
            if value is SAMPLES:
                return next(feed)
            return value.to(device) if isinstance(value, Tensor) else value

        return tuple(map(fill, args)), {key: fill(value) for key, value in kwargs.items()}


def _identity(call: Call) -> Hashable:
    args, kwargs = call
    return tuple(_digest(value) for value in (*args, *kwargs, *kwargs.values()))


def _digest(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        content = value.contiguous().reshape(-1).view(torch.uint8).numpy()
        return tuple(value.shape), str(value.dtype), hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return "samples" if value is SAMPLES else repr(value)
