"""The one reconstruction loop: methods differ in what trains, in the objective, in the input and in the samples."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aiqvit.interfaces import Diverged
from aiqvit.quant.blend import blend
from aiqvit.quant.layers import half_products
from aiqvit.quant.surgery import quant_layers
from aiqvit.recon.capture import device_of, first
from aiqvit.recon.objective import Objective
from aiqvit.recon.walk import UnitData


@dataclass(frozen=True)
class Schedule:
    """How long, on how much, towards what."""

    steps: int
    batch: int
    objective: Objective
    mix: float = 0.0  # share of input elements from the full-precision model, drawn anew each step (QDrop); 1: all
    normalised: bool = True  # divide the loss by its first value, beside a penalty


@dataclass(frozen=True)
class Group:
    """Parameters that train at one Adam learning rate, decayed to 0 by a cosine."""

    parameters: tuple[nn.Parameter, ...]
    rate: float


def groups_of(trainables: Iterable[tuple[nn.Parameter, float]], rate: float) -> list[Group]:
    """A group a parameter, at `rate` times its natural size; none at rate 0."""
    return [Group((parameter,), rate * size) for parameter, size in trainables] if rate else []


def evaluate(data: UnitData, indices: Iterable[int], objective: Objective, mix: float = 0.0) -> Tensor:
    """The loss of the unit on the named samples. Samples of several shapes (detection) are run shape by shape."""
    groups = data.inputs.stackable(indices)
    losses = [objective.errors(*_outcome(data, group, mix), group).mean() for group in groups]
    if len(groups) == 1:
        return losses[0]
    return sum(len(group) * part for group, part in zip(groups, losses, strict=True)) / sum(map(len, groups))


def _outcome(data: UnitData, indices: list[int], mix: float = 0.0) -> tuple[Tensor, Tensor]:
    """Output and target (B, ...) of the unit on the named samples, which are of one shape."""
    device = device_of(data.unit)
    args, kwargs = (data.fp_inputs if mix == 1 else data.inputs).gather(indices, device)
    if 0 < mix < 1:
        others, _ = data.fp_inputs.gather(indices, device)
        args = tuple(blend(a, o, mix, data.noise) if isinstance(a, Tensor) and a.is_floating_point() else a
                     for a, o in zip(args, others, strict=True))
    (target,), _ = data.targets.gather(indices, device)
    return first(data.unit(*args, **kwargs)), target


@torch.no_grad()
def sample_losses(data: UnitData, objective: Objective, mix: float = 0.0) -> Tensor:
    """The objective's value of the unit on every calibration sample, (n,), on the CPU.

    With `mix` 1 on full-precision inputs; any other value means quantized ones, without random mixing.
    """
    losses = []
    with half_products(data.unit, data.bf16):
        for start, batch in zip(data.targets.starts, data.targets.batches, strict=True):
            rows = list(range(start, start + len(batch[0])))
            losses.append(objective(*_outcome(data, rows, float(mix == 1)), rows).cpu())
    return torch.cat(losses)


def guarded(data: UnitData, schedule: Schedule, train: Callable[[], None], put_back: bool = True) -> dict:
    """Train the unit; with `put_back`, bring it back as it was if its loss over all samples rose.

    The loss is that of the schedule, on the inputs that it trains on. Returns the losses for the log. Where a few
    activations are huge, most others share code 0, and straight-through gradients, which do not see that, can lead a
    unit away from any good state.
    """
    schedule.objective.start(data)
    before = sample_losses(data, schedule.objective, schedule.mix).mean().item()
    saved = copy.deepcopy(data.unit.state_dict()) if put_back else {}
    train()
    after = sample_losses(data, schedule.objective, schedule.mix).mean().item()
    kept = after <= before or not put_back
    if not kept:
        for _, layer in quant_layers(data.unit):
            layer.compensation = layer.offset = None
        data.unit.load_state_dict(saved)
    return {"loss_before": before, "loss_after": after, "kept": kept}


@torch.enable_grad()
def reconstruct(
    data: UnitData,
    groups: list[Group],
    schedule: Schedule,
    sample: Callable[[int], list[int]],
    *,
    before_step: Callable[[int], None] = lambda step: None,
    after_step: Callable[[], None] = lambda: None,
    penalty: Callable[[int], Tensor | float] = lambda step: 0.0,
    progress: Callable[..., Iterable] = lambda items, text: items,
) -> None:
    """Train `groups` so that the unit reproduces its targets.

    `sample(step)` names the batch, `before_step(step)` may do other updates (rank search), `penalty(step)` is added
    to the loss (rounding), `after_step()` brings parameters back into their domains. Raises `Diverged` at a loss that
    is not finite.
    """
    groups = [g for g in groups if g.parameters]
    if not groups or schedule.steps <= 0:
        return
    objective, scale = schedule.objective, None
    optimizer = torch.optim.Adam([{"params": list(g.parameters), "lr": g.rate} for g in groups])
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=schedule.steps)
    trained = [p for g in groups for p in g.parameters]
    for step in progress(range(schedule.steps), data.name):
        for p in trained:
            p.requires_grad_(True)
        with half_products(data.unit, data.bf16):
            before_step(step)
            objective.update(step)
            loss = evaluate(data, sample(step), objective, schedule.mix)
        if not math.isfinite(value := loss.item()):
            raise Diverged(f"{data.name}: the loss is {value} at step {step} of {schedule.steps}")
        scale = scale or (max(value, 1e-12) / objective.starts_at if schedule.normalised else 1.0)
        optimizer.zero_grad(set_to_none=True)
        (loss / scale + penalty(step)).backward()
        optimizer.step()
        decay.step()
        with torch.no_grad():
            after_step()
    for p in trained:
        p.requires_grad_(False)
        p.grad = None


def uniform_sampler(pool: Tensor, batch: int, generator: torch.Generator) -> Callable[[int], list[int]]:
    """Batches from `pool` (n,) by random passes without replacement."""
    return passes(lambda step: pool, batch, generator)


def passes(pool: Callable[[int], Tensor], batch: int, generator: torch.Generator) -> Callable[[int], list[int]]:
    """Batches by random passes without replacement, each over what `pool(step)` is when it begins."""
    queue: list[int] = []

    def sample(step: int) -> list[int]:
        now = pool(step)
        while len(queue) < min(batch, len(now)):
            queue.extend(now[torch.randperm(len(now), generator=generator)].tolist())
        chosen = queue[:batch]
        del queue[:batch]
        return chosen

    return sample
