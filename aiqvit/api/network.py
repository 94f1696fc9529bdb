"""The network that is handed over: checked, copied, and what of it stays in full precision."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from aiqvit.deploy.apart import apart
from aiqvit.deploy.info import ATTRIBUTE
from aiqvit.families.family import find
from aiqvit.families.opening import open_model
from aiqvit.interfaces import UserError
from aiqvit.quant.anatomy import Anatomy
from aiqvit.quant.site import FULL
from aiqvit.quant.surgery import model_sites

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
REPLACED = (nn.Linear, nn.Conv2d, *NORMS)  # by quantized layers, or into these methods fold what they do


def check_network(model: nn.Module) -> None:
    """Raise `UserError` for what is no network of full precision with finite weights."""
    if not isinstance(model, nn.Module):
        raise UserError(f"model is a {type(model).__name__}: expected a torch.nn.Module")
    if hasattr(model, ATTRIBUTE):
        raise UserError("the model is quantized already: start from the network of full precision")
    for name, parameter in model.named_parameters():
        if parameter.is_meta or is_lazy(parameter):
            raise UserError(f"model: {name} has no values, it is on the meta device or lazy: load trained weights")
        if not parameter.isfinite().all():
            raise UserError(f"model: {name} has values that are NaN or infinite: load trained weights")
    _check_changes(model)


def _check_changes(model: nn.Module) -> None:
    """Raise `UserError` for a function that was changed from outside, warn of hooks that are left behind."""
    for name, module in model.named_modules():
        where = f"model: {name or type(model).__name__}"
        if "forward" in vars(module):
            hint = "model._orig_mod" if hasattr(module, "_orig_mod") else "one of its class"
            raise UserError(f"{where} has a forward pass of its own, as torch.compile gives it: hand over the network "
                            f"that is inside, {hint}")
        replaced = isinstance(module, REPLACED) or find(type(module), "opener") is not None
        if replaced and (module._forward_hooks or module._forward_pre_hooks):
            warnings.warn(f"{where} has forward hooks, which its quantized form has not", stacklevel=4)


def copied(model: nn.Module) -> nn.Module:
    """The network to quantize: float32, evaluation mode, nothing trained, each module and parameter at one place.

    Buffers that were rounded to another type are no longer those that a fresh network has: the file has to have them.
    Raises `UserError` for a network that cannot be copied.
    """
    rounded = any(t.is_floating_point() and t.dtype != torch.float32 for t in (*model.parameters(), *model.buffers()))
    try:
        net = apart(copy.deepcopy(model)).float().eval().requires_grad_(False)
    except Exception as error:  # whatever modules of the user's raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"model: {type(model).__name__} cannot be copied: {reason}") from error
    for module in net.modules() if rounded else ():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_floating_point():
                module.register_buffer(name, buffer)
    return net


def keeping(net: nn.Module, keep: Sequence[str]) -> dict[str, str]:
    """Bits of the layers and products that the globs of `keep` name, 32 each; names what they mean for coverage.

    Raises `UserError` for a glob that names no module.
    """
    if isinstance(keep, str) or not isinstance(keep, Sequence) or not all(isinstance(glob, str) for glob in keep):
        raise UserError(f"keep={keep!r}: expected a list of globs, such as ['head', 'decoder.*']")
    names = [name for name, _ in net.named_modules() if name]
    kept: list[str] = []
    for glob in keep:
        if not (found := [name for name in names if fnmatchcase(name, glob)]):
            near = get_close_matches(glob, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"its parts are {', '.join(dict(net.named_children()))}"
            raise UserError(f"keep={glob!r} names no module of {type(net).__name__}: {hint}")
        kept += found
    for name in kept:
        module = net.get_submodule(name)
        if find(type(module), "describer") is None:  # the others are said anew when the network is opened
            module.anatomy = Anatomy(full_precision={"": "kept by the user"})
    sites = model_sites(open_model(copy.deepcopy(net))) if kept else {}
    inside = [name for name in sites if any(name == part or name.startswith(f"{part}.") for part in kept)]
    return {_exactly(name): str(FULL) for name in inside}


def _exactly(name: str) -> str:
    """A glob that stands for this name and never for a role that is called the same, such as `head`."""
    return f"[{name[0]}]{name[1:]}"
