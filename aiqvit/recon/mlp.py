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
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Generator

from aiqvit.families.opening import open_model
from aiqvit.interfaces import Job
from aiqvit.quant.state import load_state, saved_state
from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.capture import device_of
from aiqvit.recon.mlp_data import Calls, Mlp, captured, fitting, mlps_of
from aiqvit.recon.mlp_training import DirectAndClamped, MlpSchedule, train_mlp
from aiqvit.recon.objectives.perturbation import PerturbationMap, perturbation_map
from aiqvit.recon.tail import Tail
from aiqvit.transforms.relu import left_alone, replace_gelu

AT_ONCE = 1.0  # GiB of inputs and outputs: one more pass over the calibration set costs less than the memory


def relu_model(job: Job, schedule: MlpSchedule) -> None:
    """Make a ReLU of every GELU of the job's model and reconstruct its feed-forward networks, in place.

    `job.teacher` becomes a copy of the model as it was, `job.rewritten` says what was done or why not. Networks train
    on one thread each, side by side where there are more: that changes nothing, and the number of threads no more than
    the last digits of a perturbation map. One log entry a network; those that `job.checkpoint` kept are taken over, and
    all where another run has reconstructed them (`job.shared`).
    """
    model = open_model(job.model)
    mlps = mlps_of(model)
    job.rewritten += [f"GELU replaced by ReLU in {len(mlps)} feed-forward networks"] if mlps else []
    job.rewritten += [f"ReLU: {reason}"] if (reason := left_alone(model)) else []
    if not mlps:
        return
    job.teacher = copy.deepcopy(model).requires_grad_(False)
    replace_gelu(model)
    key = "mlps", replace(schedule, memory_gb=0.0), job.bf16
    finished, began = _taken_over(job, mlps), time.perf_counter()
    if not finished and _shared(job, mlps, key):
        return
    rest = mlps[finished:]
    limit = int(min(schedule.memory_gb, AT_ONCE) * 2**30)
    for group in fitting(job.teacher, rest, job.calibration, job.forward, limit):
        store = ActivationStore(limit)
        calls = captured(job.teacher, group, job.calibration, job.forward, store)
        work = []
        for mlp, parts in zip(group, calls, strict=True):
            draw = Generator().manual_seed(job.seed * 2**16 + mlps.index(mlp))
            goal = DirectAndClamped(_importance(job, mlp, parts, schedule, draw))
            work.append((job, mlp, parts, schedule, goal, draw))
        done = _side_by_side(train_mlp, work, device_of(model))
        for mlp, entry in zip(group, job.progress(done, "MLP reconstruction", len(group)), strict=True):
            job.log.append({"unit": mlp.name, **entry})
            job.checkpoint.save(mlp.name, {"unit": saved_state(mlp.within(model)), "log": job.log[-1]})
    if not finished:
        states = [saved_state(mlp.within(model)) for mlp in mlps]
        job.shared.put(key, {"states": states, "log": job.log[-len(mlps):], "seconds": time.perf_counter() - began})


def _shared(job: Job, mlps: Sequence[Mlp], key: Hashable) -> bool:
    """Whether another run has reconstructed these networks; then they are brought into their states."""
    if (kept := job.shared.get(key)) is None:
        return False
    for mlp, state, entry in zip(mlps, kept["states"], kept["log"], strict=True):
        load_state(mlp.within(job.model), state)
        job.log.append(dict(entry))
        job.checkpoint.save(mlp.name, {"unit": state, "log": entry})
    job.shared.seconds += kept["seconds"]
    return True


def _taken_over(job: Job, mlps: Sequence[Mlp]) -> int:
    """How many networks were finished before the run was killed; these are brought into their states."""
    for count, mlp in enumerate(mlps):
        if (kept := job.checkpoint.load(mlp.name)) is None:
            return count
        try:
            log = dict(kept["log"])
            load_state(mlp.within(job.model), kept["unit"])
        except Exception as error:  # whatever a state of another program makes them raise
            job.checkpoint.refuse(mlp.name, error)
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


def _importance(job: Job, mlp: Mlp, calls: Calls, schedule: MlpSchedule, draw: Generator) -> PerturbationMap | None:
    """The perturbation map at the output of a network of the teacher, scaled; None where the loss is plain."""
    if schedule.weighting == "plain":
        return None
    tail = Tail(job.teacher, (mlp.end,), mlp.end, job.calibration, job.forward)
    return perturbation_map(tail, calls[1], draw, schedule.images or None, device_of(job.teacher)).scaled()
