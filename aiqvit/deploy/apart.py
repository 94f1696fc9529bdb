"""Modules and parameters that stand at several places of a network: each place gets its own."""

from __future__ import annotations

from copy import deepcopy

from torch import nn


def apart(network: nn.Module) -> nn.Module:
    """Copy, in place, what stands at several places; returns the network.

    Quantized, each place has ranges of its own, and what a method folds into one must not reach the others.
    """
    _separate(network, {id(network)})
    seen = set()
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if id(parameter) in seen:
                setattr(module, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
            elif parameter is not None:
                seen.add(id(parameter))
    return network


def _separate(module: nn.Module, seen: set[int]) -> None:
    for name, child in list(module._modules.items()):
        if child is None:
            continue
        if id(child) in seen:
            child = module._modules[name] = deepcopy(child)
        seen.add(id(child))
        _separate(child, seen)
