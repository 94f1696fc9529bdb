"""The feed-forward networks of a model, and what they get and give in full precision over the calibration set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.quant.anatomy import anatomy_of
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.capture import device_of, first
from aiqvit.transforms.relu import gelus

Calls = tuple[Activations, Activations]  # inputs and outputs of a network


@dataclass(frozen=True)
class Mlp:
    """What is trained as one, from the input of `start` to the output of `end`, modules by their names in the model."""

    start: str
    end: str  # `start` itself, or the layer behind it
    function: str  # the GELU, or the ReLU in its place
    layers: tuple[str, ...]  # that are trained

    @property
    def name(self) -> str:
        """Under which it is logged and kept."""
        return f"mlp:{self.end}"

    def within(self, model: nn.Module) -> nn.Module:
        """It as one module, whose parameters are the model's."""
        start, end = model.get_submodule(self.start), model.get_submodule(self.end)
        return start if start is end else nn.Sequential(start, end)


def mlps_of(model: nn.Module) -> list[Mlp]:
    """The feed-forward networks of an open model whose last layer has a GELU in front.

    Where their first layer gives something else too (queries, of parallel blocks), the last layer alone is one.
    """
    found = []
    for layer, function in gelus(model):
        whole, _, last = layer.rpartition(".")
        anatomy = anatomy_of(model.get_submodule(whole))
        if anatomy and anatomy.reads and anatomy.writes == (last,):
            found.append(Mlp(whole, whole, function, tuple(f"{whole}.{name}" for name in anatomy.roles)))
        else:
            found.append(Mlp(function, layer, function, (layer,)))
    return found


@torch.no_grad()
def captured(model: nn.Module, mlps: Sequence[Mlp], batches: Sequence[Any], forward: Callable,
             store: ActivationStore) -> list[Calls]:
    """Inputs and outputs of the networks, in one pass over the batches."""
    found = [(Activations(store), Activations(store)) for _ in mlps]
    hooks = []
    for mlp, (inputs, outputs) in zip(mlps, found, strict=True):
        hooks.append(model.get_submodule(mlp.start).register_forward_pre_hook(
            lambda _, args, kwargs, inputs=inputs: inputs.append(args, kwargs), with_kwargs=True))
        hooks.append(model.get_submodule(mlp.end).register_forward_hook(
            lambda _, __, output, outputs=outputs: outputs.append((first(output),))))
    try:
        for batch in batches:
            forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def fitting(model: nn.Module, mlps: Sequence[Mlp], batches: Sequence[Any], forward: Callable,
            limit: int) -> Iterator[list[Mlp]]:
    """The networks in groups whose inputs and outputs over all batches take about `limit` bytes at most, one at least.

    One that the model does not reach is left out.
    """
    group, used = [], 0
    for mlp, calls in zip(mlps, captured(model, mlps, batches[:1], forward, ActivationStore(limit)), strict=True):
        tensors = [tensor for part in calls for batch in part.batches for tensor in batch]
        size = len(batches) * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if group and used + size > limit:
            yield group
            group, used = [], 0
        if size:
            group, used = [*group, mlp], used + size
    if group:
        yield group


@torch.no_grad()
def positive_quantile(model: nn.Module, mlp: Mlp, inputs: Activations, share: float, most: int = 2**22) -> float:
    """The value of rank ceil(n share) of the n values above 0 behind the function of a network, of the first `most`.

    Infinity where there are none.
    """
    seen: list[Tensor] = []
    hook = model.get_submodule(mlp.function).register_forward_hook(lambda _, __, y: seen.append(y[y > 0]))
    unit = mlp.within(model)
    try:
        for args, kwargs in inputs.calls(device_of(unit)):
            unit(*args, **kwargs)
            if sum(map(len, seen)) >= most:
                break
    finally:
        hook.remove()
    values = torch.cat(seen)[:most]
    return values.kthvalue(max(math.ceil(len(values) * share), 1)).values.item() if len(values) else math.inf
