"""Two models side by side: where they differ, layer by layer, and in what they say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aiqvit.api.data import Data, batches, check_input
from aiqvit.api.devices import device_of, evaluated
from aiqvit.interfaces import UserError
from aiqvit.quant.layers import QuantProduct
from aiqvit.recon.gradients import tensors_of

LAYERS = (nn.Linear, nn.Conv2d, QuantProduct)  # what QuantLinear and QuantConv2d are too


@dataclass(frozen=True)
class Comparison:
    """How far a model b is from a model a, over all samples."""

    samples: int
    sites: dict[str, float]  # layer or product that both have -> signal-to-noise of its output, in dB; inf: equal
    snr: float  # of the models' outputs, in dB
    mean: float  # absolute difference of the outputs
    largest: float
    agreement: float | None  # percent of samples with the same largest output, of classifiers

    def __str__(self) -> str:
        worst = sorted(self.sites.items(), key=lambda item: item[1])[:8]
        same = "" if self.agreement is None else f", the same class for {self.agreement:.1f} %"
        return "\n".join([
            f"outputs on {self.samples} samples: {self.snr:.1f} dB signal-to-noise, difference {self.mean:.3g} on "
            f"average, {self.largest:.3g} at most{same}",
            f"the {len(worst)} noisiest of {len(self.sites)} layers and products that both have (`sites` has all; "
            "products of attention only where both are quantized):",
            *(f"  {value:6.1f} dB  {name}" for name, value in worst)])


@torch.no_grad()
def compare(a: nn.Module, b: nn.Module, data: Data) -> Comparison:
    """Compare two models on the same inputs: the full-precision one with a quantized one, or two quantized ones.

    >>> found = compare(model, q, torch.randn(4, 3, 160, 160))
    >>> found.agreement >= 0 and found.sites["blocks.0.attn.qkv"] > 0
    True

    Products of attention are compared where both models are quantized: only then they are modules. A layer's
    signal-to-noise is 10 log10(sum a^2 / sum (a - b)^2) of its outputs, each model's own activations in
    front of it: what it shows is the noise up to there. Raises `UserError` for inputs that a model does not take and
    for outputs that do not fit each other.
    """
    with evaluated(a), evaluated(b):
        return _compared(a, b, batches(data))


def _compared(a: nn.Module, b: nn.Module, given: list[Tensor]) -> Comparison:
    for model in (a, b):
        check_input(model, given[0].to(device_of(model)))
    names = dict(_layers(a)).keys() & dict(_layers(b)).keys()
    energies = {name: torch.zeros(2, dtype=torch.float64) for name in (*sorted(names), "")}
    off, same = [], []
    for batch in given:
        (one, first), (other, second) = (_watched(model, names, batch) for model in (a, b))
        if one.shape != other.shape:
            raise UserError(f"the outputs of the models have shapes {tuple(one.shape)} and {tuple(other.shape)}: give "
                            "models of the same kind")
        for name in names & first.keys() & second.keys():
            energies[name] += _energies(first[name], second[name])
        energies[""] += _energies(one, other)
        off.append((one - other).abs().double().flatten())
        same.append(one.argmax(1) == other.argmax(1) if one.dim() == 2 else torch.empty(0))
    differences, agreeing = torch.cat(off), torch.cat(same)
    decibels = {name: _decibels(*pair.tolist()) for name, pair in energies.items() if not name or pair[0] > 0}
    return Comparison(sum(map(len, given)), {name: value for name, value in decibels.items() if name}, decibels[""],
                      differences.mean().item(), differences.max().item(),
                      100 * agreeing.double().mean().item() if len(agreeing) else None)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LAYERS))


def _watched(model: nn.Module, names: set[str], batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What a model gives for a batch, and what its layers of these names give in their first call."""
    seen: dict[str, Tensor] = {}
    hooks = [module.register_forward_hook(lambda _, __, output, name=name: seen.setdefault(name, output.float().cpu()))
             for name, module in _layers(model) if name in names]
    try:
        return _joined(model(batch.to(device_of(model)))), seen
    finally:
        for hook in hooks:
            hook.remove()


def _joined(output: object) -> Tensor:
    """A model's output as one tensor: itself, or all its tensors (B, ...) side by side."""
    tensors = [tensor.float().cpu() for tensor in tensors_of(output)]
    return tensors[0] if len(tensors) == 1 else torch.cat([tensor.flatten(1) for tensor in tensors], 1).unsqueeze(-1)


def _energies(a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape:
        return torch.zeros(2, dtype=torch.float64)
    return torch.stack([a.double().square().sum(), (a.double() - b.double()).square().sum()])


def _decibels(signal: float, noise: float) -> float:
    return math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-300) / noise)
