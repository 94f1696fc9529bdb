"""Ranges of all layers and products of a unit on its full-precision inputs: nothing propagates from one to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from aiqvit.quant.layers import QuantLayer, QuantMatMul, QuantProduct, QuantWeightedSum
from aiqvit.quant.quantizers import AdaptiveLog
from aiqvit.quant.surgery import calibrate_remaining, set_mode
from aiqvit.recon.activations import Call
from aiqvit.recon.capture import device_of
from aiqvit.recon.layer_search import LayerSearch, Operand
from aiqvit.recon.layerwise import rows_of
from aiqvit.recon.walk import UnitData
from aiqvit.transforms.reparam import reparameterize

Seen = Mapping[nn.Module, tuple[Tensor, ...]]


@dataclass(frozen=True)
class Sample:
    """On how much a search looks: `images`, of these `rows` of a layer's input, drawn at random, `maps` of a product.

    0 rows means all; `maps` is counted in images, of which a window attention has many maps each, and 0 means all.
    """

    images: int = 32
    rows: int = 0
    maps: int = 0


def search_unit(data: UnitData, search: LayerSearch, sample: Sample, generator: Generator) -> None:
    """Set the ranges of a unit on the full-precision inputs of its first images.

    Ranges a channel behind LayerNorms are found first, by their own error, and reparameterized: the tensor's is then
    searched on the rewritten input. Layers that the search does not know (grouped convolutions) take their observers'.
    """
    unit = data.unit
    chosen = data.fp_inputs.stackable(range(min(sample.images, len(data.fp_inputs))))[0]
    call = data.fp_inputs.gather(chosen, device_of(unit))
    set_mode(unit, "off")
    behind_norms = {layer for layer in _modules(unit) if isinstance(layer, QuantLayer)
                    and layer.input_quantizer.axis == -1}
    for layer, (x,) in _seen(unit, call, behind_norms).items():
        operand = Operand(layer.input_quantizer, _some(x.flatten(0, -2), sample.rows, generator))
        search.search(operand, operand.own_errors)
    reparameterize(unit)
    for module, inputs in _seen(unit, call, _modules(unit)).items():
        if isinstance(module, QuantProduct):
            first, second = product_operands(module, *(_maps(x, sample, len(chosen)) for x in inputs))
        elif getattr(module, "groups", 1) == 1:
            first, second = layer_operands(module, _some(rows_of(module, inputs[0]), sample.rows, generator))
        else:
            continue
        search(first, second)
        _settle(module)
    calibrate_remaining(unit, lambda m: m(*call[0], **call[1]), images=len(chosen))


def layer_operands(layer: QuantLayer, rows: Tensor) -> tuple[Operand, Operand]:
    """Weights, then inputs; behind GELU the other way round. `rows`: (n, in), of a convolution as its kernel sees."""
    inputs = Operand(layer.input_quantizer, rows)
    weights = Operand(layer.weight_quantizer, layer.weight.detach().flatten(1), centred=True)
    return (inputs, weights) if isinstance(layer.input_quantizer, AdaptiveLog) else (weights, inputs)


def product_operands(product: QuantProduct, left: Tensor, right: Tensor) -> tuple[Operand, Operand]:
    """The left operand, then the right one, both with what the product sums over as the last dimension."""
    if isinstance(product, QuantWeightedSum):  # (B, N, K, D) twice: a product of 1 x K and K x 1 for each channel
        left, right = (x.transpose(-2, -1).unsqueeze(-2) for x in (left, right))
    elif isinstance(product, QuantMatMul) and not product.transposed:
        right = right.transpose(-2, -1)
    return (Operand(product.left_quantizer, left.contiguous(), centred=True),
            Operand(product.right_quantizer, right.contiguous(), centred=True))


def _settle(module: nn.Module) -> None:
    """Give the ranges the shapes of the module's own tensors, and switch its quantizers on."""
    if isinstance(module, QuantLayer) and module.weight_quantizer.coded:
        q = module.weight_quantizer
        q.scale.data, q.zero = (q.broadcast(t.flatten(), module.weight) for t in (q.scale.data, q.zero))
    set_mode(module, "on")


def _modules(unit: nn.Module) -> list[nn.Module]:
    return [module for module in unit.modules() if isinstance(module, QuantLayer | QuantProduct)]


@torch.no_grad()
def _seen(unit: nn.Module, call: Call, wanted: set[nn.Module] | list[nn.Module]) -> Seen:
    """What each of the modules is first called with in one call of the unit, in that order."""
    found: dict[nn.Module, tuple[Tensor, ...]] = {}
    hooks = [module.register_forward_pre_hook(lambda m, args: found.setdefault(m, args) and None) for module in wanted]
    try:
        if hooks:
            unit(*call[0], **call[1])
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _some(rows: Tensor, count: int, generator: Generator) -> Tensor:
    if not count or len(rows) <= count:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:count].to(rows.device)]


def _maps(x: Tensor, sample: Sample, images: int) -> Tensor:
    """The maps of the first images; the rows of an image follow one another."""
    return x[: max(len(x) * sample.maps // images, 1)] if 0 < sample.maps < images else x
