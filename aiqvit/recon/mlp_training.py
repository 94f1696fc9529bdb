"""How one feed-forward network is trained: the loss of MLP reconstruction (`aiqvit.recon.mlp`), and its steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from aiqvit.interfaces import Job
from aiqvit.quant.state import saved_state
from aiqvit.recon.capture import device_of
from aiqvit.recon.loop import Group, Schedule, evaluate, reconstruct, uniform_sampler
from aiqvit.recon.mlp_data import Calls, Mlp, positive_quantile
from aiqvit.recon.objective import Objective
from aiqvit.recon.objectives.perturbation import PerturbationMap
from aiqvit.recon.walk import UnitData

CHECKED = 64  # samples that say whether a loss rose


@dataclass(frozen=True)
class MlpSchedule:
    """How feed-forward networks are trained: Adam, its rate decayed to 0 by a cosine."""

    steps: int = 20000
    batch: int = 32
    rate: float = 4e-5
    quantile: float = 0.99  # of the values above 0 behind GELU: u
    weighting: Literal["plain", "hessian"] = "plain"
    memory_gb: float = 4.0  # networks are captured together as long as their inputs and outputs fit
    images: int = 0  # of which the perturbation map is the mean; 0: all


@dataclass(frozen=True)
class DirectAndClamped(Objective):
    """The loss of MLP reconstruction; the network gives both forms of its output one behind the other."""

    importance: PerturbationMap | None = None

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """output (2 B, ...), target (B, ...) to (B, ...)."""
        direct, clamped = output.chunk(2)
        error = (direct - target).square() + 2 * (clamped - target).square()
        return error if self.importance is None else error * self.importance.weight(target)


def train_mlp(job: Job, mlp: Mlp, calls: Calls, schedule: MlpSchedule, goal: Objective, draw: Generator) -> dict:
    """Train one network; if its loss rose, it is put back as it was, with the weights of the GELU network.

    Returns the losses for the log.
    """
    began, unit = time.perf_counter(), mlp.within(job.model)
    plan = Schedule(schedule.steps, schedule.batch, goal)
    data = UnitData(mlp.name, unit, calls[0], calls[0], calls[1])
    limit = positive_quantile(job.teacher, mlp, calls[0], schedule.quantile)
    parameters = [p for name in mlp.layers for p in job.model.get_submodule(name).parameters()]
    function = job.model.get_submodule(mlp.function)
    hook = function.register_forward_hook(lambda _, __, y: torch.cat((y, y.clamp(max=limit))))
    try:
        before, saved = _loss(data, plan), saved_state(unit)
        with torch.autocast(device_of(unit).type, torch.bfloat16, enabled=job.bf16, cache_enabled=False):
            reconstruct(data, [Group(tuple(parameters), schedule.rate)], plan,
                        uniform_sampler(torch.arange(len(calls[0])), plan.batch, draw))
        after = _loss(data, plan)
    finally:
        hook.remove()
    if not after <= before:
        unit.load_state_dict(saved)
    return {"loss_before": before, "loss_after": after, "kept": after <= before,
            "seconds": round(time.perf_counter() - began, 2)}


@torch.no_grad()
def _loss(data: UnitData, plan: Schedule) -> float:
    """The loss on the first samples."""
    parts = torch.arange(min(len(data.inputs), CHECKED)).split(plan.batch)
    losses = [len(rows) * evaluate(data, rows.tolist(), plan.objective).item() for rows in parts]
    return sum(losses) / sum(map(len, parts))
