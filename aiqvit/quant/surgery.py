"""Surgery: replace an opened model's Linear, Conv2d and products of activations by quantized ones, site by site.

Whatever the family, the result is the same list of labelled sites; a method is then a scheme `Site -> QuantSpec`. Until
quantizers are switched on, outputs equal the original model's. `aiqvit.families` opens a model first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from aiqvit.quant.anatomy import activations, layer_roles, norm_readers, units_of, unnormed
from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantConv2d, QuantLayer, QuantLinear, QuantMatMul, QuantProduct, QuantWeightedSum
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.products import MatMul, WeightedSum
from aiqvit.quant.quantizers.base import Quantizer
from aiqvit.quant.site import Scheme, Site

BY_LAYER = {"patch_embed": "image", "proj": "proj_in", "head": "head", "coordinates": "coordinates"}
BY_ACTIVATION = {"gelu": "post_gelu"}


def model_sites(model: nn.Module) -> dict[str, tuple[Site, Site]]:
    """Layer or product -> its two sites, of an opened model: (input, weight) of a layer, (left, right) of a product."""
    roles, before = layer_roles(model), activations(model)
    normed, bare = _normed(model), unnormed(model)
    found = {}
    for name, module in model.named_modules():
        if type(module) in (nn.Linear, nn.Conv2d):
            role = roles.get(name, "other")
            inputs = BY_LAYER.get(role) or ("post_layernorm" if name in normed else None)
            inputs = inputs or BY_ACTIVATION.get(before.get(name, "")) or ("residual" if name in bare else "other")
            axis = -1 if isinstance(module, nn.Linear) else 1
            found[name] = (Site(f"{name}.input_quantizer", inputs, "activation", name, axis),
                           Site(f"{name}.weight_quantizer", role, "weight", name, axis))
        elif isinstance(module, MatMul | WeightedSum):
            found[name] = (Site(f"{name}.left_quantizer", module.left, "activation", name),
                           Site(f"{name}.right_quantizer", module.right, "activation", name))
    return found


def _normed(model: nn.Module) -> set[str]:
    """Layers behind a norm into which something can be folded: within one unit, as these are reconstructed apart."""
    units = units_of(model)

    def unit(name: str) -> str:
        return next((u for u in units if name == u or name.startswith(f"{u}.")), "")

    return {layer for norm, layers in norm_readers(model) for layer in layers if unit(norm) == unit(layer)}


def place_quantizers(model: nn.Module, scheme: Scheme, policy: BitPolicy | None = None) -> nn.Module:
    """Replace every Linear, Conv2d and product of an opened model in place; quantizers start switched off.

    `policy` has the last word on bits. Roles that the scheme names and no site has are kept as `model.absent_roles`,
    for the scheme card. Raises `UserError` for a policy that names no site or one twice.
    """
    found = model_sites(model)
    specs = {site: scheme(site) for pair in found.values() for site in pair}
    if policy is not None:
        specs = policy.applied(specs, model)
    with next((p.device for p in model.parameters()), torch.device("cpu")):  # quantizers are made where the model is
        for name, pair in found.items():
            first, second = (specs[site].build(site) for site in pair)
            _replace(model, name, _quantized(model.get_submodule(name), first, second))
    present = {(site.operand, site.role) for site in specs}
    named = scheme.named() if hasattr(scheme, "named") else []
    model.absent_roles = tuple(pair for pair in named if pair not in present)
    model.requires_grad_(False)
    return model.eval()


def _quantized(module: nn.Module, first: Quantizer, second: Quantizer) -> nn.Module:
    if isinstance(module, nn.Linear):
        return QuantLinear(module, first, second)
    if isinstance(module, nn.Conv2d):
        return QuantConv2d(module, first, second)
    if isinstance(module, WeightedSum):
        return QuantWeightedSum(first, second)
    return QuantMatMul(first, second, transposed=module.transposed)


def set_mode(model: nn.Module, mode: str, *, weights: bool = True, activations: bool = True) -> None:
    """Put the quantizers of weights and/or activations into mode "off", "observe" or "on"."""
    for _, quantizer in sites(model):
        if weights if quantizer.site.operand == "weight" else activations:
            quantizer.mode = mode


def quant_layers(model: nn.Module) -> Iterator[tuple[str, QuantLayer]]:
    """Every quantized Linear and Conv2d with its qualified name."""
    for name, module in model.named_modules():
        if isinstance(module, QuantLayer):
            yield name, module


def quant_products(model: nn.Module) -> Iterator[tuple[str, QuantProduct]]:
    """Every quantized product of two activations with its qualified name."""
    for name, module in model.named_modules():
        if isinstance(module, QuantProduct):
            yield name, module


@torch.no_grad()
def calibrate(model: nn.Module, forward: Callable[[nn.Module], object], *, images: int | None = None,
              weights: bool = True, activations: bool = True) -> None:
    """Find the ranges of all quantizers in one forward pass, each behind already quantized predecessors.

    `images` is how many images that pass holds, where a layer may see more rows (windows) than that.
    """
    set_mode(model, "observe", weights=weights, activations=activations)
    _pass(model, forward, images)


@torch.no_grad()
def calibrate_remaining(model: nn.Module, forward: Callable[[nn.Module], object], *,
                        images: int | None = None) -> None:
    """Find the ranges of the quantizers that are still off, in one forward pass; none left, nothing is run."""
    rest = [quantizer for _, quantizer in sites(model) if quantizer.mode == "off"]
    for quantizer in rest:
        quantizer.mode = "observe"
    if rest:
        _pass(model, forward, images)


def _pass(model: nn.Module, forward: Callable[[nn.Module], object], images: int | None) -> None:
    for _, quantizer in sites(model):
        quantizer.images = images
    try:
        forward(model)
    finally:
        for _, quantizer in sites(model):
            quantizer.images = None
            if quantizer.mode == "observe":  # nothing reached it
                quantizer.mode = "off"


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
