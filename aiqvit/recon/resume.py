"""The state of a repaired unit in tensors and plain values, so that a killed run can go on behind it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aiqvit.recon.capture import device_of


def unit_state(unit: nn.Module) -> dict[str, dict[str, Any]]:
    """Class, parameters, buffers and plain attributes (modes, axes, notes) of every module of a unit, by its name."""
    return {
        name: {
            "class": _name(type(module)),
            "parameters": dict(module._parameters),
            "buffers": dict(module._buffers),
            "attributes": {k: v for k, v in vars(module).items() if not k.startswith("_") and _is_plain(v)},
        }
        for name, module in unit.named_modules()
    }


def restore_unit(unit: nn.Module, state: dict[str, dict[str, Any]]) -> None:
    """Bring a unit into the state; what repairing added or took away, compensation above all, is added or taken away.

    What is neither a tensor nor plain (observers) stays as the scheme made it. Raises `ValueError` for a module class
    that is not imported; nothing is changed then.
    """
    device = device_of(unit)
    known = {_name(cls): cls for cls in _subclasses(nn.Module)}
    if unknown := {kept["class"] for kept in state.values()} - known.keys():
        raise ValueError(f"module classes that are not imported: {', '.join(sorted(unknown))}")
    for name in [name for name, _ in unit.named_modules() if name not in state]:
        _attach(unit, name, None)
    for name, kept in state.items():  # parents come before their children
        module = _module(unit, name, known[kept["class"]])
        for key, value in kept["parameters"].items():
            found = None if value is None else nn.Parameter(value.data.to(device), value.requires_grad)
            module.register_parameter(key, found)
        for key, value in kept["buffers"].items():
            lasting = key not in module._non_persistent_buffers_set
            module.register_buffer(key, None if value is None else value.to(device), lasting)
        for key, value in kept["attributes"].items():
            setattr(module, key, value.to(device) if isinstance(value, Tensor) else value)


def random_state(generator: torch.Generator, device: torch.device) -> dict[str, Any]:
    """State of a generator and of the global ones of Python, NumPy and torch (CPU and, where used, the GPU)."""
    kind, keys, *rest = np.random.get_state()
    state = {"own": generator.get_state(), "torch": torch.get_rng_state(), "python": random.getstate(),
             "numpy": (kind, torch.from_numpy(keys.astype("int64")), *rest)}
    return state | ({"gpu": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_random_state(state: dict[str, Any], generator: torch.Generator, device: torch.device) -> None:
    """Put back what `random_state` gave."""
    generator.set_state(state["own"])
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype("uint32"), *rest))
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["gpu"], device)


def _is_plain(value: Any) -> bool:
    """Whether a value can be saved without naming a class in the file; enumerations, which are also str, cannot."""
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    return type(value) in (type(None), bool, int, float, str, Tensor)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _module(unit: nn.Module, name: str, cls: type[nn.Module]) -> nn.Module:
    """The module of this name; where there is none of the class, a new one without any content."""
    try:
        module = unit.get_submodule(name)
    except AttributeError:
        module = None
    if type(module) is not cls:
        module = cls.__new__(cls)
        nn.Module.__init__(module)
        _attach(unit, name, module)
    return module


def _attach(unit: nn.Module, name: str, module: nn.Module | None) -> None:
    parent, _, child = name.rpartition(".")
    setattr(unit.get_submodule(parent), child, module)


def _subclasses(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)
