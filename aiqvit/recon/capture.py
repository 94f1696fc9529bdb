"""Inputs and outputs of one unit over the calibration set, within a memory bound (spilled to disk past it)."""

from __future__ import annotations

import os
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.interfaces import Job


class Spill:
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
        handle, path = tempfile.mkstemp(prefix="aiqvit-")
        os.close(handle)
        mapped = torch.from_file(path, shared=True, size=tensor.numel(), dtype=tensor.dtype).view(tensor.shape)
        os.unlink(path)  # the mapping keeps it alive; nothing is left behind by a killed run
        return mapped.copy_(tensor)

    def _release(self, size: int) -> None:
        self.used -= size


class Samples:
    """Tensors of many samples in batches: each batch a tuple of tensors with samples along dim 0, plus constants."""

    def __init__(self, spill: Spill) -> None:
        self.spill = spill
        self.batches: list[tuple[Tensor, ...]] = []
        self.constants: list[tuple[tuple, dict]] = []  # arguments that are not tensors, and their places
        self.starts: list[int] = []
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def append(self, args: tuple, kwargs: dict[str, Any] | None = None) -> None:
        """Add a batch of call arguments; tensors are detached and moved to the CPU."""
        tensors = tuple(self.spill.keep(a.detach().cpu()) for a in args if isinstance(a, Tensor))
        self.constants.append((tuple(None if isinstance(a, Tensor) else a for a in args), kwargs or {}))
        self.starts.append(self.count)
        self.batches.append(tensors)
        self.count += len(tensors[0])

    def gather(self, indices: Iterable[int], device: torch.device | str = "cpu") -> tuple[tuple, dict]:
        """Call arguments (args, kwargs) of the named samples, tensors concatenated along dim 0."""
        rows, batch = [], 0
        for index in indices:
            batch = bisect_right(self.starts, index) - 1
            at = index - self.starts[batch]
            rows.append([t[at : at + 1] for t in self.batches[batch]])
        return self._call(batch, [torch.cat(column).to(device) for column in zip(*rows, strict=True)])

    def calls(self, device: torch.device | str = "cpu") -> Iterable[tuple[tuple, dict]]:
        """Call arguments batch by batch, in order."""
        for i, tensors in enumerate(self.batches):
            yield self._call(i, [t.to(device) for t in tensors])

    def beside(self, others: Samples) -> Samples:
        """Calls with the arguments of both, batch by batch; nothing is copied."""
        joined = Samples(self.spill)
        joined.starts, joined.count = self.starts, self.count
        joined.batches = [a + b for a, b in zip(self.batches, others.batches, strict=True)]
        joined.constants = [(a + b, kwargs) for (a, kwargs), (b, _) in
                            zip(self.constants, others.constants, strict=True)]
        return joined

    def _call(self, batch: int, tensors: list[Tensor]) -> tuple[tuple, dict]:
        places, kwargs = self.constants[batch]
        feed = iter(tensors)
        return tuple(next(feed) if place is None else place for place in places), kwargs


class _Reached(Exception):
    """Raised inside a forward pass once the wanted unit's input is known."""


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters of a module are."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def first(output: Any) -> Tensor:
    """The tensor of a unit's output: itself, or the first of a tuple."""
    return output[0] if isinstance(output, tuple | list) else output


def first_images(job: Job, count: int) -> Any:
    """The first `count` calibration images as one batch; batches that are not tensors are not joined."""
    if not isinstance(job.calibration[0], Tensor):
        return job.calibration[0]
    picked, have = [], 0
    for batch in job.calibration:
        picked.append(batch[: count - have])
        have += len(picked[-1])
        if have >= count:
            break
    return torch.cat(picked)


@torch.no_grad()
def unit_inputs(model: nn.Module, unit: str, batches: Iterable, forward: Callable, spill: Spill) -> Samples:
    """Run the model up to `unit` on every batch and keep what the unit is called with."""
    samples = Samples(spill)

    def stop(_: nn.Module, args: tuple, kwargs: dict) -> None:
        samples.append(args, kwargs)
        raise _Reached

    hook = model.get_submodule(unit).register_forward_pre_hook(stop, with_kwargs=True)
    try:
        for batch in batches:
            try:
                forward(model, batch)
            except _Reached:
                continue
    finally:
        hook.remove()
    return samples


@torch.no_grad()
def unit_outputs(unit: nn.Module, inputs: Samples, spill: Spill) -> Samples:
    """Run one unit on all its inputs; output batches are as those of `inputs`."""
    outputs = Samples(spill)
    for args, kwargs in inputs.calls(device_of(unit)):
        outputs.append((first(unit(*args, **kwargs)),))
    return outputs


@torch.no_grad()
def chained(model: nn.Module, units: Sequence[str], batch: Any, forward: Callable) -> dict[str, bool]:
    """Units that are called with the very output of the unit before, which need not be computed again.

    The value says whether other tensors come with it, such as coordinates of points. They must not depend on any unit:
    when the outputs of all units are disturbed, they stay the same.
    """
    before = {name: units[i - 1] for i, name in enumerate(units) if i}
    calls: dict[str, tuple] = {}
    linked: dict[str, bool] = {}
    last: dict[str, Any] = {"unit": None, "output": None}
    disturb = False

    def enter(name: str, args: tuple, kwargs: dict) -> None:
        if disturb:
            if name in linked and not _same(calls[name][1:], args[1:]):
                del linked[name]
            return
        others = any(isinstance(a, Tensor) for a in args[1:])
        if (name in before and last["unit"] == before[name] and args and args[0] is last["output"]
                and not kwargs and (others or len(args) == 1)):
            linked[name], calls[name] = others, args

    def leave(name: str, output: Any) -> Any:
        last.update(unit=name, output=output)
        if disturb and isinstance(output, Tensor):
            return -output.roll(1, -1)
        return None

    hooks = []
    for name in units:
        module = model.get_submodule(name)
        hooks.append(module.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: enter(name, args, kwargs), with_kwargs=True))
        hooks.append(module.register_forward_hook(lambda _, __, output, name=name: leave(name, output)))
    try:
        forward(model, batch)
        if any(linked.values()):
            disturb = True
            forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return linked


def _same(a: tuple, b: tuple) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else x is y
        for x, y in zip(a, b, strict=True))


@torch.no_grad()
def other_inputs(model: nn.Module, units: Iterable[str], batches: Iterable, forward: Callable,
                 spill: Spill) -> dict[str, Samples]:
    """All arguments but the first of every call of the units, in one pass over the batches."""
    found = {name: Samples(spill) for name in units}
    hooks = [model.get_submodule(name).register_forward_pre_hook(lambda _, args, s=samples: s.append(args[1:]))
             for name, samples in found.items()]
    try:
        for batch in batches if found else ():
            forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found
