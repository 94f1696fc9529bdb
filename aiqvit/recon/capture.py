"""Inputs and outputs of the units of a model over the calibration set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.interfaces import Job
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.samples import Batch, samples_in


class Reached(Exception):
    """Raised inside a forward pass once all that is wanted of it is known."""


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters of a module are."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def first(output: Any) -> Tensor:
    """The tensor of a unit's output: itself, or the first of a tuple."""
    return output[0] if isinstance(output, tuple | list) else output


def first_images(job: Job, count: int) -> tuple[Batch, int]:
    """Some of the first `count` calibration samples as one batch, and how many it has."""
    batch = job.join(job.calibration, count)
    return batch, samples_in(batch)


@torch.no_grad()
def unit_inputs(model: nn.Module, unit: str, batches: Iterable, forward: Callable,
                store: ActivationStore) -> Activations:
    """Run the model up to `unit` on every batch and keep what the unit is called with."""
    found = Activations(store)

    def stop(_: nn.Module, args: tuple, kwargs: dict) -> None:
        found.append(args, kwargs)
        raise Reached

    hook = model.get_submodule(unit).register_forward_pre_hook(stop, with_kwargs=True)
    try:
        for batch in batches:
            try:
                forward(model, batch)
            except Reached:
                continue
    finally:
        hook.remove()
    return found


@torch.no_grad()
def unit_outputs(unit: nn.Module, inputs: Activations, store: ActivationStore) -> Activations:
    """Run one unit on all its inputs; output batches are as those of `inputs`."""
    outputs = Activations(store)
    for args, kwargs in inputs.calls(device_of(unit)):
        outputs.append((first(unit(*args, **kwargs)),))
    return outputs


@torch.no_grad()
def chained(model: nn.Module, units: Sequence[str], batch: Any, forward: Callable) -> dict[str, bool]:
    """Units that are called with the very output of the unit before, which need not be computed again.

    The value says whether other arguments come with it, such as coordinates of points, rotary embeddings or the size of
    a feature map. They must not depend on any unit: when the outputs of all units are disturbed, they stay the same.
    """
    before = {name: units[i - 1] for i, name in enumerate(units) if i}
    calls: dict[str, tuple] = {}
    linked: dict[str, bool] = {}
    last: dict[str, Any] = {"unit": None, "output": None}
    disturb = False

    def enter(name: str, args: tuple, kwargs: dict) -> None:
        others = (*args[1:], *kwargs.values())
        if disturb:
            if name in linked and not _same(calls[name], others):
                del linked[name]
            return
        if name in before and last["unit"] == before[name] and args and args[0] is last["output"]:
            linked[name], calls[name] = bool(others), others

    def leave(name: str, output: Any) -> Any:
        last.update(unit=name, output=first(output))
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
        torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else x is y or repr(x) == repr(y)
        for x, y in zip(a, b, strict=True))


@torch.no_grad()
def other_inputs(model: nn.Module, units: Iterable[str], batches: Iterable, forward: Callable,
                 store: ActivationStore) -> dict[str, Activations]:
    """All arguments but the first of every call of the units, named in forward order, in one pass over the batches."""
    found = {name: Activations(store) for name in units}

    def keep(name: str, args: tuple, kwargs: dict) -> None:
        found[name].append(args[1:], kwargs, len(args[0]))
        if name == list(found)[-1]:
            raise Reached

    hooks = [model.get_submodule(name).register_forward_pre_hook(
        lambda _, args, kwargs, name=name: keep(name, args, kwargs), with_kwargs=True) for name in found]
    try:
        for batch in batches if found else ():
            with contextlib.suppress(Reached):
                forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found
