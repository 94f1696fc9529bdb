"""Differentiable rank search (AIQViT Eqs. 13-14), as in DARTS: weights on half of the data, scores on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from aiqvit.quant.layers import QuantLayer
from aiqvit.recon.loop import Group, Schedule, evaluate, groups_of, reconstruct, uniform_sampler
from aiqvit.recon.lowrank import LowRank, RankMixture, candidate_ranks
from aiqvit.recon.objective import Objective
from aiqvit.recon.walk import UnitData


@dataclass(frozen=True)
class SearchConfig:
    """Settings of the search."""

    schedule: Schedule
    ranks: tuple[int, ...]
    full_rank: bool
    form: str
    drop: float
    rate: float  # Adam on A and B, relative to their natural sizes
    alpha_rate: float  # Adam on the scores
    second_order: float  # step of DARTS's unrolled gradient; 0 takes the first order


def search_ranks(data: UnitData, layers: dict[str, QuantLayer], config: SearchConfig, extra: list[Group],
                 generator: torch.Generator, noise: torch.Generator, after_step: Callable[[], None],
                 progress: Callable) -> dict[str, list]:
    """Leave in every layer the low-rank term that won; return {layer: [rank, softmax(alpha)]}.

    `extra` groups (scales, bounds) train along with A and B. `generator` draws samples, `noise` the starts of A.
    """
    mixtures: dict[str, RankMixture] = {}
    for name, layer in layers.items():
        ranks = candidate_ranks(layer.weight, config.ranks, config.full_rank)
        layer.compensation = mixtures[name] = RankMixture(layer.weight, ranks, config.form, config.drop, noise)
    order = torch.randperm(len(data.inputs), generator=generator)
    half = max(len(order) // 2, 1)
    training, validation = order[:half], order[half:] if len(order) > 1 else order
    trained = [pair for name, m in mixtures.items() for pair in m.trainables(layers[name].weight_quantizer)]
    factors = tuple(parameter for parameter, _ in trained)
    alphas = [m.alpha for m in mixtures.values()]
    architecture = torch.optim.Adam(alphas, lr=config.alpha_rate, betas=(0.5, 0.999), weight_decay=1e-3)
    validate = uniform_sampler(validation, config.schedule.batch, generator)
    train = uniform_sampler(training, config.schedule.batch, generator)
    loss = config.schedule.objective

    def update_alpha(step: int) -> None:
        for mixture in mixtures.values():
            mixture.redraw(generator)
        if config.second_order:
            gradients = _second_order(data, factors, alphas, train(step), validate(step), config.second_order, loss)
        else:
            gradients = _gradients(evaluate(data, validate(step), loss), alphas)
        for alpha, gradient in zip(alphas, gradients, strict=True):
            alpha.grad = gradient
        architecture.step()

    reconstruct(data, [*groups_of(trained, config.rate), *extra], config.schedule, train, before_step=update_alpha,
                after_step=after_step, progress=lambda items, text: progress(items, f"{text} rank search"))
    return {name: _keep_best(layers[name], mixture) for name, mixture in mixtures.items()}


def _keep_best(layer: QuantLayer, mixture: RankMixture) -> list:
    winner: LowRank = mixture.best()
    layer.compensation = winner
    return [winner.rank, [round(p, 4) for p in mixture.alpha.detach().softmax(0).tolist()]]


def _second_order(data: UnitData, factors: tuple[nn.Parameter, ...], alphas: list[nn.Parameter], training: list[int],
                  validation: list[int], rate: float,
                  loss: Objective) -> list[torch.Tensor]:
    """DARTS's unrolled gradient: that of L_val(theta - rate dL_train), its mixed term by a finite difference."""
    start = [p.detach().clone() for p in factors]
    step = _gradients(evaluate(data, training, loss), factors)
    _move(factors, start, step, -rate)
    gradients = _gradients(evaluate(data, validation, loss), [*alphas, *factors])
    direct, towards = gradients[: len(alphas)], gradients[len(alphas) :]
    epsilon = 0.01 / max(float(torch.cat([g.flatten() for g in towards]).norm()), 1e-12)
    sides = []
    for sign in (1, -1):
        _move(factors, start, towards, sign * epsilon)
        sides.append(_gradients(evaluate(data, training, loss), alphas))
    _move(factors, start, towards, 0.0)
    return [d - rate * (p - m) / (2 * epsilon) for d, p, m in zip(direct, *sides, strict=True)]


def _gradients(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Gradients, zeros for what the loss does not use: dropped candidates."""
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)


@torch.no_grad()
def _move(parameters: tuple[nn.Parameter, ...], start: list[torch.Tensor], way: tuple, by: float) -> None:
    for p, origin, direction in zip(parameters, start, way, strict=True):
        p.copy_(origin + by * direction)
