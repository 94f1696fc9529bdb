"""Whether the tensors of a file are those of a network."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.deploy.rebuild import outline
from aiqvit.families.family import find
from aiqvit.interfaces import UserError
from aiqvit.quant.anatomy import Anatomy, anatomy_of
from aiqvit.quant.surgery import quant_layers

TOKENS = -2  # the axis of a quantizer with a range for each token


def fresh(model: nn.Module) -> nn.Module:
    """The network that was handed over, ready. Raises `UserError` for what is no network, or not a fresh one."""
    if not isinstance(model, nn.Module):
        raise UserError(f"model is a {type(model).__name__}: expected a fresh instance of the network, as Net()")
    if next(quant_layers(model), None):
        raise UserError("the network that was handed over is quantized already: expected a fresh instance of it")
    return model.cpu().float()


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of names, classes and plain attributes of all modules, which shapes of weights do not tell."""
    rows = [(name, kind, plain) for name, _, kind, plain, _ in outline(model)]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def describe(model: nn.Module, roles: Mapping[str, str]) -> None:
    """Let layers of a network that no family knows have these roles."""
    if roles and find(type(model), "describer") is None and anatomy_of(model) is None:
        model.anatomy = Anatomy(roles=roles)


def warn_of_another(model: nn.Module, wanted: str) -> None:
    """Warn where a fresh network is not the one of this fingerprint; an empty one is not known."""
    if wanted and fingerprint(model) != wanted:
        warnings.warn(f"the {type(model).__name__} that was handed over has modules or attributes unlike those of the "
                      "one that was quantized, such as another number of heads: outputs may be others", stacklevel=4)


def keep_buffers(model: nn.Module, state: dict[str, Any]) -> None:
    """Let the state_dict have the buffers that only the file has in it."""
    for name, module in model.named_modules():
        for key, buffer in list(module.named_buffers(recurse=False)):
            if f"{name}.{key}".lstrip(".") in state:
                module.register_buffer(key, buffer)


def check_types(model: nn.Module, state: dict[str, Any]) -> None:
    """Raise `ValueError` for a tensor of another type than the model's."""
    own = model.state_dict()
    for key, tensor in state.items():
        wanted = getattr(own.get(key), "dtype", torch.float32)  # what methods add is float32
        if isinstance(tensor, Tensor) and tensor.dtype != wanted:
            raise ValueError(f"{key} is {tensor.dtype} instead of {wanted}".replace("torch.", ""))


def check_shapes(model: nn.Module) -> None:
    """Raise `ValueError` for what the shape of a layer's weight does not allow, where loading takes any shape."""
    for name, layer in quant_layers(model):
        shape = layer.weight.shape
        for key, tensor, wanted in (("bias", layer.bias, shape[:1]), ("offset", layer.offset, shape)):
            if tensor is not None and tensor.shape != wanted:
                raise ValueError(f"{name}.{key} has the shape {tuple(tensor.shape)} instead of {tuple(wanted)}")
        quantizer, inputs = layer.input_quantizer, shape[1] * getattr(layer, "groups", 1)
        for tensor in (*quantizer.parameters(), *quantizer.buffers()):
            if tensor.numel() not in (1, inputs) and quantizer.axis != TOKENS:
                raise ValueError(f"{name} has {inputs} inputs, but ranges for {tensor.numel()}")
