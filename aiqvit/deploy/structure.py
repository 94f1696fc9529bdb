"""Modules that stand in a network in the place of others: what a file has to say beside the name of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import nn

from aiqvit.families.family import activation, foldable
from aiqvit.transforms.relu import ReLU
from aiqvit.transforms.rotate import RMSNorm, Turned

Kind = Literal["RMSNorm", "Turned", "ReLU"]


def _rms_norm(norm: nn.Module) -> nn.Module:
    if isinstance(norm, RMSNorm) or not foldable(norm):
        raise ValueError("no LayerNorm")
    return RMSNorm(len(norm.weight), norm.eps, norm.weight)


def _turned(norm: nn.Module) -> nn.Module:
    if not foldable(norm):
        raise ValueError("no norm")
    return Turned(norm, nn.Linear(len(norm.weight), len(norm.weight), bias=False))


def _relu(function: nn.Module) -> nn.Module:
    if activation(function) != "gelu":
        raise ValueError("no GELU")
    return ReLU()


MAKERS: dict[type[nn.Module], Callable[[nn.Module], nn.Module]] = {RMSNorm: _rms_norm, Turned: _turned, ReLU: _relu}


def replaced(model: nn.Module) -> dict[str, str]:
    """Name -> class of every module that a rewriting has put in the place of another."""
    return {name: type(module).__name__ for name, module in model.named_modules() if type(module) in MAKERS}


def replace(network: nn.Module, kinds: Mapping[str, Kind]) -> None:
    """Make, in place, the modules of `replaced` in an open network, with values of no meaning.

    Raises `ValueError` where the network has no module that they take the place of.
    """
    makers = {cls.__name__: maker for cls, maker in MAKERS.items()}
    for name, kind in kinds.items():
        try:
            network.set_submodule(name, makers[kind](network.get_submodule(name)))
        except (AttributeError, ValueError) as error:
            raise ValueError(f"{name} cannot become a {kind}: {error}") from error
