"""Two models side by side: where they differ, layer by layer, and in what they say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aiqvit.api.data import Data, batches, check_input
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
            f"{len(self.sites)} layers and products, the noisiest first:",
            *(f"  {value:6.1f} dB  {name}" for name, value in worst)])


@torch.no_grad()
def compare(a: nn.Module, b: nn.Module, data: Data) -> Comparison:
    """Compare two models on the same inputs: the full-precision one with a quantized one, or two quantized ones.

    >>> found = compare(model, q, torch.randn(4, 3, 160, 160))
    >>> found.agreement >= 0 and found.sites["blocks.0.attn.qkv"] > 0
    True

    A layer's signal-to-noise is 10 log10(sum a^2 / sum (a - b)^2) of its outputs, each model's own activations in
    front of it: what it shows is the noise up to there. Raises `UserError` for inputs that a model does not take and
    for outputs that do not fit each other.
    """
    given = batches(data)
    for model in (a, b):
        check_input(model.eval(), given[0].to(_device(model)))
    names = dict(_layers(a)).keys() & dict(_layers(b)).keys()
    sums = {name: torch.zeros(2, dtype=torch.float64) for name in (*sorted(names), "")}
    mean, largest, same, classes = 0.0, 0.0, 0, 0
    for batch in given:
        outputs = []
        kept: list[dict[str, Tensor]] = []
        for model in (a, b):
            with _watched(model, names) as seen:
                outputs.append(_joined(model(batch.to(_device(model)))))
            kept.append(seen)
        if outputs[0].shape != outputs[1].shape:
            raise UserError(f"the outputs of the models have shapes {tuple(outputs[0].shape)} and "
                            f"{tuple(outputs[1].shape)}: give models of the same kind")
        for name in names & kept[0].keys() & kept[1].keys():
            sums[name] += _energies(kept[0][name], kept[1][name])
        sums[""] += _energies(*outputs)
        off = (outputs[0] - outputs[1]).abs()
        mean, largest = mean + off.double().mean().item() * len(batch), max(largest, off.max().item())
        classes += outputs[0].shape[0] if outputs[0].dim() == 2 else 0
        same += int((outputs[0].argmax(1) == outputs[1].argmax(1)).sum()) if outputs[0].dim() == 2 else 0
    count = sum(map(len, given))
    decibels = {name: _decibels(*pair.tolist()) for name, pair in sums.items() if name == "" or pair[0] > 0}
    return Comparison(count, {k: v for k, v in decibels.items() if k}, decibels[""], mean / count, largest,
                      100 * same / classes if classes else None)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LAYERS))


@contextmanager
def _watched(model: nn.Module, names: set[str]) -> Iterator[dict[str, Tensor]]:
    """Outputs of the layers of these names, of their first call, while the model runs once."""
    seen: dict[str, Tensor] = {}
    hooks = [module.register_forward_hook(lambda _, __, output, name=name: seen.setdefault(name, output.float().cpu()))
             for name, module in _layers(model) if name in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


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
