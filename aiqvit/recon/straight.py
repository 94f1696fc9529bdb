"""Reconstruction that trains the weights themselves, through straight-through rounding to the nearest code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from aiqvit.quant.card import sites
from aiqvit.quant.surgery import quant_layers
from aiqvit.recon.loop import Group, Schedule, groups_of, guarded, reconstruct, uniform_sampler
from aiqvit.recon.walk import UnitData


@dataclass(frozen=True)
class WeightRates:
    """Adam's learning rates."""

    weight: float  # of weights and biases, and of weight scales
    scale: float  # of activation scales
    weight_level: float = 0.0  # of weight scales, in levels by which an end of the range moves; not 0: instead of it
    level: float = 0.0  # the same of activation scales


def train_weights(data: UnitData, schedule: Schedule, rates: WeightRates, generator: torch.Generator,
                  progress: Callable, put_back: bool = True) -> dict:
    """Train every weight, bias and scale of the unit; `put_back`: see `guarded`. Returns the losses for the log."""
    return guarded(data, schedule, lambda: _train(data, schedule, rates, generator, progress), put_back)


def _train(data: UnitData, schedule: Schedule, rates: WeightRates, generator: torch.Generator,
           progress: Callable) -> None:
    layers = [layer for _, layer in quant_layers(data.unit)]
    quantizers = [q for _, q in sites(data.unit)]
    groups = [Group(tuple(p for layer in layers for p in (layer.weight, layer.bias) if p is not None), rates.weight)]
    for q in quantizers:
        rate, level = ((rates.weight, rates.weight_level) if q.site.operand == "weight"
                       else (rates.scale, rates.level))
        groups += groups_of(q.trainables(), level) if level else [Group(tuple(p for p, _ in q.trainables()), rate)]

    def constrain() -> None:
        for q in quantizers:
            q.constrain()

    sample = uniform_sampler(torch.arange(len(data.inputs)), schedule.batch, generator)
    reconstruct(data, groups, schedule, sample, after_step=constrain, progress=progress)
