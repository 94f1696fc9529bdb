"""A quantized model as one file: integer codes in place of weights, loaded again without the original or any data.

What is loaded gives the outputs of what was saved, bit for bit on one machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.deploy import file
from aiqvit.deploy.apart import apart
from aiqvit.deploy.bitpack import pack, unpack
from aiqvit.deploy.fit import check_shapes, check_types, describe, fresh, keep_buffers, warn_of_another
from aiqvit.deploy.info import attach, info_of
from aiqvit.deploy.rebuild import build
from aiqvit.deploy.sites import Stored, restored, weight_of
from aiqvit.deploy.structure import replace, replaced
from aiqvit.families.opening import open_model, quantize_model
from aiqvit.interfaces import UserError
from aiqvit.io.escape import line
from aiqvit.io.structure import checked
from aiqvit.quant.card import scheme_card
from aiqvit.quant.layers import QuantLayer
from aiqvit.quant.quantizers.base import STATE, Quantizer
from aiqvit.quant.state import load_state, saved_state, scheme_of
from aiqvit.quant.surgery import quant_layers

USED_ONCE = ("input_mean", "input_power")  # of a layer: what ranges were found by


def save_model(model: nn.Module, path: str | Path) -> int:
    """Write a quantized model to `path`, whole or not at all; returns the size in bytes.

    Raises `UserError` for a model that is not quantized, whose training is not over, or a place that cannot be written.
    """
    info = info_of(model)
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise UserError(f"{name} is {str(parameter.dtype).removeprefix('torch.')}: a quantized model is stored in "
                            "float32, model.float()")
    state = saved_state(model)
    quantizers = {key.removesuffix(f".{STATE}"): state.pop(key) for key in [*state] if key.endswith(f".{STATE}")}
    unused = {f"{name}.{key}" for name, _ in quant_layers(model) for key in USED_ONCE}
    tensors = {key: value for key, value in state.items() if key not in unused}
    try:
        _restored(quantizers, tensors)
    except ValueError as error:
        raise UserError(f"the model cannot be stored: {error}") from error
    packed = {}
    for name, layer in coded_layers(model):
        codes = checked_codes(name, layer)
        bits = layer.weight_quantizer.bits
        tensors[f"{name}.weight"] = pack(codes, bits)
        packed[name] = {"bits": bits, "shape": list(codes.shape)}
    header = {"card": scheme_card(model), "absent": [list(pair) for pair in getattr(model, "absent_roles", ())],
              "quantizers": quantizers, "packed": packed}
    if kinds := replaced(model):
        header["rewritten"] = kinds
    return file.write(Path(path), header, info, tensors)


def load_model(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The quantized model of a file, in evaluation mode on the CPU.

    `model` is a fresh instance of its network, changed in place; without one the network is built by the name that the
    file has. Raises `UserError` for a file that cannot be used and a network that it does not fit.
    """
    path = Path(path)
    header, info, tensors = file.read(path)
    try:
        state = _state(header, tensors)
    except ValueError as error:
        reason = line(str(error))[:300]
        raise UserError(f"cannot load {str(path)!r}: its header does not fit its tensors, {reason}") from error
    network = build(info.recipe, tensors, path) if model is None else fresh(model)
    if model is not None:
        warn_of_another(network, info.network)
    describe(network, info.roles)
    try:
        network = open_model(apart(network))
        replace(network, header.get("rewritten", {}))
        skeleton = quantize_model(network, scheme_of(state))
        keep_buffers(skeleton, state)
        check_types(skeleton, state)
        load_state(skeleton, state)
        check_shapes(skeleton)
    except ValueError as error:
        whose = "the network that it names" if model is None else f"a {type(network).__name__}"
        raise UserError(f"cannot load {str(path)!r} into {whose}: {line(str(error))[:300]}") from error
    skeleton.absent_roles = tuple((operand, role) for operand, role in header["absent"])
    return attach(skeleton, info)


def coded_layers(model: nn.Module) -> Iterator[tuple[str, QuantLayer]]:
    """Every layer whose weight is integer codes, with its qualified name."""
    for name, layer in quant_layers(model):
        if layer.weight_quantizer.coded and layer.weight_quantizer.mode == "on":
            yield name, layer


@torch.no_grad()
def checked_codes(name: str, layer: QuantLayer) -> Tensor:
    """The integer codes of a layer's weight, int32 (out, ...), which decode to the weight that the layer uses.

    Raises `UserError` where they would not: a format that is not exact.
    """
    quantizer = layer.weight_quantizer
    codes = quantizer.encode(layer.weight)
    decoded = quantizer.decode(codes)
    if not (torch.equal(decoded, quantizer.fake(layer.weight)) and torch.equal(quantizer.fake(decoded), decoded)):
        raise UserError(f"{name}: its weight cannot be stored as codes, {type(quantizer).__name__} does not give the "
                        "same values again")
    return codes


def _state(header: file.Header, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The state_dict of the model. Raises `ValueError` for a header that is not that of its tensors."""
    quantizers = _restored(header["quantizers"], tensors)
    state: dict[str, Any] = dict(tensors)
    for name, stored in header["packed"].items():
        key, count = f"{name}.weight", prod(stored["shape"])
        quantizer = quantizers.get(f"{name}.weight_quantizer")
        if quantizer is None or key not in tensors:
            raise ValueError(f"{key} or its quantizer is missing")
        codes = unpack(tensors[key], stored["bits"], count).view(stored["shape"])
        state[key] = weight_of(key, quantizer, codes, stored["bits"])
    return state | {f"{name}.{STATE}": stored for name, stored in header["quantizers"].items()}


def _restored(quantizers: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Quantizer]:
    """Every quantizer with its tensors. Raises `ValueError` for one that a file cannot have."""
    below: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        site, _, own = key.rpartition(".")
        below[site][own] = tensor
    return {name: restored(name, checked(stored, Stored), below[name]) for name, stored in quantizers.items()}
