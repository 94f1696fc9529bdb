"""A quantized model as one file: integer codes in place of weights, loaded again without the original or any data.

What is loaded gives the outputs of what was saved, bit for bit on one machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.deploy import file
from aiqvit.deploy.bitpack import pack, unpack
from aiqvit.deploy.info import attach, info_of
from aiqvit.deploy.rebuild import build
from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import UserError
from aiqvit.quant.card import scheme_card
from aiqvit.quant.layers import QuantLayer
from aiqvit.quant.quantizers.base import STATE
from aiqvit.quant.site import Site
from aiqvit.quant.state import load_state, saved_state, scheme_of
from aiqvit.quant.surgery import quant_layers

USED_ONCE = ("input_mean", "input_power")  # of a layer: what ranges were found by


def save_model(model: nn.Module, path: str | Path) -> int:
    """Write a quantized model to `path`, whole or not at all; returns the size in bytes.

    Raises `UserError` for a model that is not quantized, whose training is not over, or a place that cannot be written.
    """
    info = info_of(model)
    state = saved_state(model)
    quantizers = {key.removesuffix(f".{STATE}"): state.pop(key) for key in [*state] if key.endswith(f".{STATE}")}
    tensors = {key: value for key, value in state.items() if key.rpartition(".")[2] not in USED_ONCE}
    packed = {}
    for name, layer in coded_layers(model):
        codes = checked_codes(name, layer)
        bits = layer.weight_quantizer.bits
        tensors[f"{name}.weight"] = pack(codes, bits)
        packed[name] = {"bits": bits, "shape": list(codes.shape)}
    header = {"card": scheme_card(model), "absent": [list(pair) for pair in getattr(model, "absent_roles", ())],
              "quantizers": quantizers, "packed": packed}
    return file.write(Path(path), header, info, tensors)


def load_model(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The quantized model of a file, in evaluation mode on the CPU.

    `model` is a fresh instance of its network, changed in place; without one the network is built by the name that the
    file has. Raises `UserError` for a file that cannot be used and a network that it does not fit.
    """
    path = Path(path)
    header, info, tensors = file.read(path)
    state = _state(path, header, tensors)
    network = build(info.recipe, tensors, path) if model is None else model
    try:
        skeleton = quantize_model(network, scheme_of(state))
        load_state(skeleton, state)
    except UserError as error:
        whose = "the network that it names" if model is None else f"a {type(network).__name__}"
        raise UserError(f"cannot load {str(path)!r} into {whose}: {error}") from error
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


def _state(path: Path, header: file.Header, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The state_dict of the model. Raises `UserError` for a header that is not that of its tensors."""
    try:
        state: dict[str, Any] = dict(tensors)
        state |= {f"{site}.{STATE}": values for site, values in header["quantizers"].items()}
        scheme = scheme_of(state)
        for name, stored in header["packed"].items():
            site = f"{name}.weight_quantizer"
            codes = unpack(tensors[f"{name}.weight"], stored["bits"], prod(stored["shape"])).view(stored["shape"])
            quantizer = scheme(Site(site)).build(Site(site))
            own = {key.removeprefix(f"{site}."): value for key, value in state.items() if key.startswith(f"{site}.")}
            quantizer.load_state_dict(own)
            state[f"{name}.weight"] = quantizer.decode(codes)
        return state
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"cannot load {str(path)!r}: its header does not fit its tensors, {error}") from error
