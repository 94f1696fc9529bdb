"""Second moments of the inputs of single layers, for solvers that work layer by layer in closed form (GPTQ, ERQ).

Nothing is kept of the activations but sums of products, so memory depends on the widths of the layers alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from aiqvit.quant.layers import QuantConv2d, QuantLayer
from aiqvit.quant.surgery import quant_layers, set_mode
from aiqvit.recon.capture import device_of
from aiqvit.recon.walk import UnitData


@dataclass
class Gram:
    """Sums over all rows x of a layer's input, (in, in) each; in counts kernel positions in front of a convolution."""

    quantized: Tensor  # q q^T, with q what the layer gets behind its quantized predecessors and its own quantizer
    mixed: Tensor  # q x^T, with x the same in full precision
    full: Tensor  # x x^T
    rows: int = 0

    @classmethod
    def empty(cls, width: int, device: torch.device) -> Gram:
        """All zero."""
        return cls(*(torch.zeros(width, width, device=device) for _ in range(3)))

    def add(self, quantized: Tensor, full: Tensor) -> None:
        """Add rows (n, in) of the two paths."""
        self.quantized.addmm_(quantized.T, quantized)
        self.mixed.addmm_(quantized.T, full)
        self.full.addmm_(full.T, full)
        self.rows += len(full)


@torch.no_grad()
def input_grams(data: UnitData, names: Sequence[str] | None = None) -> dict[str, Gram]:
    """The Gram matrices of the named layers of a unit (all of them by default), over all its calibration samples.

    The quantized path is the unit as it stands on its quantized inputs, the other one its copy with quantizers off on
    full-precision inputs: both count in the same, perhaps reparameterized, coordinates. Grouped convolutions raise
    `ValueError`.
    """
    layers = dict(quant_layers(data.unit))
    names = list(layers) if names is None else list(names)
    plain = copy.deepcopy(data.unit)
    set_mode(plain, "off")
    grams: dict[str, Gram] = {}
    for quantized, full in zip(data.inputs.calls(device_of(data.unit)), data.fp_inputs.calls(device_of(data.unit)),
                               strict=True):
        seen = [_inputs(unit, names, call) for unit, call in ((data.unit, quantized), (plain, full))]
        for name in names:
            first, second = seen[0][name], seen[1][name]
            if name not in grams:
                grams[name] = Gram.empty(first.shape[1], first.device)
            grams[name].add(first, second)
    return grams


def _inputs(unit: nn.Module, names: Sequence[str], call: tuple[tuple, dict]) -> dict[str, Tensor]:
    """What enters the product of each named layer in one call of the unit, behind its input quantizer: (n, in)."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str, layer: QuantLayer, x: Tensor) -> None:
        found[name].append(rows_of(layer, layer.input_quantizer(x)))

    hooks = [unit.get_submodule(name).register_forward_pre_hook(lambda m, args, name=name: keep(name, m, args[0]))
             for name in names]
    try:
        args, kwargs = call
        unit(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def rows_of(layer: QuantLayer, x: Tensor) -> Tensor:
    """The input of a layer as rows (n, in): tokens of a Linear, the patches under the kernel of a convolution."""
    if not isinstance(layer, QuantConv2d):
        return x.flatten(0, -2)
    if layer.groups != 1:
        raise ValueError("grouped convolutions have no single Gram matrix")
    patches = unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # (B, in kh kw, L)
    return patches.transpose(1, 2).flatten(0, 1)
