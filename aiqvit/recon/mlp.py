"""MLP reconstruction: each feed-forward network learns to give with ReLU what it gave with GELU.

Z. Wu et al., "APHQ-ViT" (CVPR 2025), https://arxiv.org/abs/2504.02508, Section 3.3, code
https://github.com/GoatWu/APHQ-ViT; GLF-Q (2026) does the same without weights of the error. Inputs and outputs are
those of the full-precision model, so that no network depends on another. The loss is

    mean h (y - t)^2 + 2 mean h (y' - t)^2

with t the output with GELU, y that with ReLU and y' that with ReLU whose values are clamped to [0, u], u a quantile of
what GELU gives above 0: a few large values would take the range of the quantizer. h is 1 (plain), or the average
perturbation map at the output, scaled to a mean square of 1 (hessian).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from aiqvit.families.opening import open_model
from aiqvit.interfaces import Job
from aiqvit.quant.state import load_state, saved_state
from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.capture import device_of
from aiqvit.recon.loop import Group, Schedule, evaluate, reconstruct, uniform_sampler
from aiqvit.recon.mlp_data import Calls, Mlp, captured, fitting, mlps_of, positive_quantile
from aiqvit.recon.objective import Objective
from aiqvit.recon.walk import UnitData
from aiqvit.transforms.relu import left_alone, replace_gelu

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


class DirectAndClamped(Objective):
    """The loss of MLP reconstruction; the network gives both forms of its output one behind the other."""

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """output (2 B, ...), target (B, ...) to (B, ...)."""
        direct, clamped = output.chunk(2)
        return (direct - target).square() + 2 * (clamped - target).square()


def relu_model(job: Job, schedule: MlpSchedule) -> None:
    """Make a ReLU of every GELU of the job's model and reconstruct its feed-forward networks, in place.

    `job.teacher` becomes a copy of the model as it was, `job.rewritten` says what was done or why not. Networks train
    on one thread each, side by side where there are more: the result does not depend on that. One log entry a network;
    those that `job.checkpoint` kept are taken over.
    """
    model = open_model(job.model)
    mlps = mlps_of(model)
    job.rewritten += [f"GELU replaced by ReLU in {len(mlps)} feed-forward networks"] if mlps else []
    job.rewritten += [f"ReLU: {reason}"] if (reason := left_alone(model)) else []
    if not mlps:
        return
    job.teacher = copy.deepcopy(model).requires_grad_(False)
    replace_gelu(model)
    rest = mlps[_taken_over(job, mlps):]
    for group in fitting(job.teacher, rest, job.calibration, job.forward, int(schedule.memory_gb * 2**30)):
        store = ActivationStore(int(schedule.memory_gb * 2**30))
        calls = captured(job.teacher, group, job.calibration, job.forward, store)
        work = [(job, mlp, parts, schedule, mlps.index(mlp)) for mlp, parts in zip(group, calls, strict=True)]
        done = _side_by_side(_train, work, device_of(model))
        for mlp, entry in zip(group, job.progress(done, "MLP reconstruction", len(group)), strict=True):
            job.log.append({"unit": _key(mlp), **entry})
            job.checkpoint.save(_key(mlp), {"unit": saved_state(mlp.within(model)), "log": job.log[-1]})


def _key(mlp: Mlp) -> str:
    """Under which a network is logged and kept."""
    return f"mlp:{mlp.end}"


def _taken_over(job: Job, mlps: Sequence[Mlp]) -> int:
    """How many networks were finished before the run was killed; these are brought into their states."""
    for count, mlp in enumerate(mlps):
        if (kept := job.checkpoint.load(_key(mlp))) is None:
            return count
        try:
            log = dict(kept["log"])
            load_state(mlp.within(job.model), kept["unit"])
        except Exception as error:  # whatever a state of another program makes them raise
            job.checkpoint.refuse(_key(mlp), error)
            return count
        job.log.append(log)
    return len(mlps)


def _side_by_side(work: Callable[..., dict], items: Sequence[tuple], device: torch.device) -> Iterator[dict]:
    """`work(*item)` of all items in order, each on one thread, as many at once as torch has threads."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(min(threads, len(items)) if device.type == "cpu" else 1,
                              initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(lambda item: work(*item), items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _train(job: Job, mlp: Mlp, calls: Calls, schedule: MlpSchedule, index: int) -> dict:
    """Train one network; if its loss rose, it is put back as it was, with the weights of the GELU network.

    Returns the losses for the log.
    """
    began, unit = time.perf_counter(), mlp.within(job.model)
    plan = Schedule(schedule.steps, schedule.batch, DirectAndClamped())
    data = UnitData(_key(mlp), unit, calls[0], calls[0], calls[1])
    limit = positive_quantile(job.teacher, mlp, calls[0], schedule.quantile)
    parameters = [p for name in mlp.layers for p in job.model.get_submodule(name).parameters()]
    draw = Generator().manual_seed(job.seed * 2**16 + index)
    function = job.model.get_submodule(mlp.function)
    hook = function.register_forward_hook(lambda _, __, y: torch.cat((y, y.clamp(max=limit))))
    try:
        before, saved = _loss(data, plan), saved_state(unit)
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
    return sum(len(rows) * evaluate(data, rows.tolist(), plan.objective).item() for rows in parts) / sum(map(len, parts))
