"""Opening a model: every product becomes a module, every block is described. Then quantizers can be placed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy

import torch
from torch import nn

from aiqvit.families.family import Unsupported, find, unknown_network
from aiqvit.interfaces import Coverage
from aiqvit.quant.anatomy import units_of
from aiqvit.quant.coverage import coverage, require
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.site import FULL, Scheme, spec
from aiqvit.quant.surgery import model_sites, place_quantizers
from aiqvit.transforms.batchnorm import fold_batchnorm


def open_model(model: nn.Module) -> nn.Module:
    """Fold batch norms, open attention and attach anatomies, in place; the function in evaluation stays the same.

    A model that is open already stays as it is. Raises `Unsupported` for a norm or an activation function that no
    family knows; attention that none knows is found by its `coverage`.
    """
    fold_batchnorm(model)
    try:
        _open(model)
    except Unsupported as error:
        raise error.within(model) from None
    return model


def _open(model: nn.Module) -> None:
    for name, module in list(model.named_modules()):
        if name and (opener := find(type(module), "opener")) is not None:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, opener(module))
    for module in reversed(list(model.modules())):  # children before their parents
        if (describer := find(type(module), "describer")) is not None:
            module.anatomy = describer(module)


def quantize_model(model: nn.Module, scheme: Scheme, policy: BitPolicy | None = None) -> nn.Module:
    """Open a model and replace its layers and products in place; see `place_quantizers`."""
    return place_quantizers(open_model(model), scheme, policy)


def unit_names(model: nn.Module) -> tuple[str, ...]:
    """The units of a model, which stays as it is: see `units_of`."""
    return units_of(open_model(deepcopy(model)))


def reached_units(model: nn.Module, forward: Callable[[nn.Module], object]) -> tuple[str, ...]:
    """The units that a pass calls, `forward(copy)`; the model stays as it is. A head, for one, may be for training."""
    copy, called = open_model(deepcopy(model)), []
    for name in units_of(copy):
        copy.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.append(name))
    with torch.no_grad():
        forward(copy)
    return tuple(name for name in units_of(copy) if name in called)


def check_policies(model: nn.Module, policies: Iterable[BitPolicy]) -> None:
    """Raise `UserError` where one of the policies names no site of the model or one twice; the model stays as it is."""
    copy = open_model(deepcopy(model))
    specs = {site: spec(Uniform, 8) for pair in model_sites(copy).values() for site in pair}
    for policy in policies:
        policy.applied(specs, copy)


def check(model: nn.Module, forward: Callable[[nn.Module], object], name: str, partial: bool = False,
          known: bool = True) -> Coverage:
    """What of a model can be quantized, found on a copy of it by one pass, `forward(copy)`: before any data is read.

    Raises `UserError` for a norm or an activation function that no family knows, for more than 1 % of all
    multiply-accumulates that would be missed, with the name of the first module (unless `partial`), and for a network
    whose units no family knows (where it is to be `known`).
    """
    copy = quantize_model(deepcopy(model), lambda site: spec(Uniform, FULL))
    found = coverage(copy, forward, placed=True)
    require(found, partial, name)
    if known and not units_of(copy):
        raise unknown_network(model, name)
    return found
