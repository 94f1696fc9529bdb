"""One phase of rounding reconstruction, which BRECQ and QDrop share: train alpha and/or activation scales of a unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from aiqvit.interfaces import Job
from aiqvit.quant.card import sites
from aiqvit.quant.surgery import quant_layers
from aiqvit.recon.loop import Group, Schedule, groups_of, guarded, reconstruct, uniform_sampler
from aiqvit.recon.rounding import RoundingPenalty, harden, place_rounding
from aiqvit.recon.walk import UnitData


@dataclass(frozen=True)
class RoundingRates:
    """Adam's learning rates (0 leaves the parameters alone) and the weight of the rounding regulariser."""

    rounding: float
    scale: float  # of activation scales, absolute as in the published code
    level: float = 0.0  # of activation scales, in levels by which an end of the range moves; not 0: instead of `scale`
    penalty: float = 0.01
    warm_up: float = 0.2


def train_rounding(data: UnitData, schedule: Schedule, rates: RoundingRates, generator: torch.Generator,
                   progress: Callable, put_back: bool = True) -> dict:
    """Train the rounding of every layer of the unit and its activation scales; at the end the rounding is hard.

    `put_back`: see `guarded`. Returns the losses for the log.
    """
    return guarded(data, schedule, lambda: _train(data, schedule, rates, generator, progress), put_back)


def train_dropping(data: UnitData, schedule: Schedule, rates: RoundingRates, drop: float, job: Job,
                   put_back: bool = True) -> dict:
    """`train_rounding` as in QDrop: a share `drop` of the elements of every activation inside is not quantized."""
    activations = [q for _, q in sites(data.unit) if q.site.operand == "activation"]
    for q in activations:
        q.dropping(drop, job.noise)
    losses = train_rounding(data, schedule, rates, job.generator, job.progress, put_back)
    for q in activations:
        q.dropping(0.0)
    return losses


def _train(data: UnitData, schedule: Schedule, rates: RoundingRates, generator: torch.Generator,
           progress: Callable) -> None:
    layers = [layer for _, layer in quant_layers(data.unit)]
    rounders = place_rounding(layers) if rates.rounding else ()
    activations = [q for _, q in sites(data.unit) if q.site.operand == "activation"]
    scales = [pair for q in activations for pair in q.trainables()]

    def constrain() -> None:
        for q in activations:
            q.constrain()

    groups = [Group(tuple(r.alpha for r in rounders), rates.rounding)]
    if rates.level:
        groups += groups_of(scales, rates.level)
    elif rates.scale:
        groups.append(Group(tuple(p for p, _ in scales), rates.scale))
    penalty = RoundingPenalty(rounders, schedule.steps, rates.penalty, warm_up=rates.warm_up)
    sample = uniform_sampler(torch.arange(len(data.inputs)), schedule.batch, generator)
    reconstruct(data, groups, schedule, sample, after_step=constrain, penalty=penalty, progress=progress)
    harden(layers)
