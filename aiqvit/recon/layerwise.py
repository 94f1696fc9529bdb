"""Second moments of the inputs of single layers, for solvers that work layer by layer in closed form (GPTAQ, ERQ).

Nothing is kept of the activations but sums of products, so memory depends on the widths of the layers alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantConv2d, QuantLayer
from aiqvit.quant.surgery import quant_layers, set_mode
from aiqvit.recon.capture import Reached, device_of
from aiqvit.recon.walk import UnitData


@dataclass
class Gram:
    """Sums over all rows x of a layer's input, (in, in) each; in counts kernel positions in front of a convolution."""

    quantized: Tensor  # q q^T, with q what the layer gets behind its own quantizer
    mixed: Tensor  # q x^T, with x the same in full precision
    rows: int = 0

    @classmethod
    def empty(cls, width: int, device: torch.device) -> Gram:
        """All zero."""
        return cls(*(torch.zeros(width, width, device=device) for _ in range(2)))

    def add(self, quantized: Tensor, full: Tensor) -> None:
        """Add rows (n, in) of the two paths."""
        self.quantized.addmm_(quantized.T, quantized)
        self.mixed.addmm_(quantized.T, full)
        self.rows += len(full)


@torch.no_grad()
def input_grams(data: UnitData, names: Sequence[str] | None = None, plain: nn.Module | None = None) -> dict[str, Gram]:
    """The Gram matrices of the named layers of a unit (all of them by default), over all its calibration samples.

    The quantized path is the unit as it stands on its quantized inputs, the other one `plain` on full-precision inputs:
    by default the unit's copy with quantizers off. Both count in the same, perhaps reparameterized, coordinates.
    Grouped convolutions raise `ValueError`.
    """
    names = [name for name, _ in quant_layers(data.unit)] if names is None else list(names)
    plain = full_precision_copy(data.unit) if plain is None else plain
    grams: dict[str, Gram] = {}
    device, calls = device_of(data.unit), sum(called in names for called in layer_calls(data))
    for quantized, full in zip(data.inputs.calls(device), data.fp_inputs.calls(device), strict=True):
        seen = [_inputs(unit, names, call, calls) for unit, call in ((data.unit, quantized), (plain, full))]
        for name in names:
            first, second = seen[0][name], seen[1][name]
            if name not in grams:
                grams[name] = Gram.empty(first.shape[1], first.device)
            grams[name].add(first, second)
    return grams


def full_precision_copy(unit: nn.Module) -> nn.Module:
    """A copy of a quantized unit with all quantizers off."""
    plain = copy.deepcopy(unit)
    set_mode(plain, "off")
    return plain


@torch.no_grad()
def layer_calls(data: UnitData) -> list[str]:
    """The names of the unit's layers in the order in which one call of the unit calls them, each as often as that."""
    calls: list[str] = []
    args, kwargs = next(iter(data.inputs.calls(device_of(data.unit))))
    with _hooked(data.unit, dict(quant_layers(data.unit)), lambda name, *_: calls.append(name)):
        data.unit(*args, **kwargs)
    return calls


def _inputs(unit: nn.Module, names: Sequence[str], call: tuple[tuple, dict], calls: int) -> dict[str, Tensor]:
    """What enters the product of each named layer in one call of the unit, behind its input quantizer: (n, in).

    The call ends where the named layers have been called `calls` times in all.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str, layer: QuantLayer, x: Tensor) -> None:
        found[name].append(rows_of(layer, layer.input_quantizer(x)))
        if sum(map(len, found.values())) == calls:
            raise Reached

    args, kwargs = call
    with suppress(Reached), _hooked(unit, {name: unit.get_submodule(name) for name in names}, keep):
        unit(*args, **kwargs)
    return {name: torch.cat(parts) for name, parts in found.items()}


@torch.no_grad()
def network_grams(model: nn.Module, batches: Iterable[Any], forward: Callable) -> dict[str, Gram]:
    """The Gram matrices of all layers of a network in full precision, with a last column of ones for the bias.

    x is what a layer gets while nothing is quantized, q the same behind its own input quantizer: no error is handed
    on from layer to layer. Grouped convolutions and layers that are not reached are left out.
    """
    layers = {name: layer for name, layer in quant_layers(model) if getattr(layer, "groups", 1) == 1}
    modes = {quantizer: quantizer.mode for _, quantizer in sites(model)}
    grams: dict[str, Gram] = {}

    def keep(name: str, layer: QuantLayer, x: Tensor) -> None:
        quantizer = layer.input_quantizer
        code = quantizer.fake if modes[quantizer] == "on" else nn.Identity()
        quantized, full = (pad(rows_of(layer, t), (0, 1), value=1.0) for t in (code(x), x))
        if name not in grams:
            grams[name] = Gram.empty(full.shape[1], full.device)
        grams[name].add(quantized, full)

    set_mode(model, "off")
    try:
        with _hooked(model, layers, keep):
            for batch in batches:
                forward(model, batch)
    finally:
        for quantizer, mode in modes.items():
            quantizer.mode = mode
    return grams


@contextmanager
def _hooked(model: nn.Module, layers: dict[str, nn.Module], keep: Callable) -> Iterator[None]:
    """Within it, `keep(name, layer, input)` is called in front of each of the layers."""
    def hook(name: str) -> Callable:
        def call(layer: QuantLayer, args: tuple) -> None:
            keep(name, layer, args[0])
        return call

    hooks = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def rows_of(layer: QuantLayer, x: Tensor) -> Tensor:
    """The input of a layer as rows (n, in): tokens of a Linear, the patches under the kernel of a convolution."""
    if not isinstance(layer, QuantConv2d):
        return x.flatten(0, -2)
    if layer.groups != 1:
        raise ValueError("grouped convolutions have no single Gram matrix")
    patches = unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # (B, in kh kw, L)
    return patches.transpose(1, 2).flatten(0, 1)
