"""Objectives: how far a unit's output is from its target. A method chooses one; the loop knows nothing but this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import kl_div

from aiqvit.interfaces import UserError

if TYPE_CHECKING:
    from aiqvit.recon.walk import UnitData


class Objective:
    """What reconstruction minimizes. A subclass implements `errors`, and what else it needs.

    `start` sees the unit with its data and its `tail`, the rest of the network, before anything is trained; `update` is
    called before every step.
    """

    starts_at: float = 1.0  # the loop scales the loss so that the first one is this, beside what a penalty adds

    def start(self, data: UnitData) -> None:
        """Gather what the objective needs of a unit."""

    def update(self, step: int) -> None:
        """Renew what changes while the unit is trained."""

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """Errors (B, ...) of the samples `rows`; the mean over all of them is the loss."""
        raise TypeError(f"{type(self).__name__} does not implement errors")

    def __call__(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """One value a sample, (B,): the mean of its errors."""
        errors = self.errors(output, target, rows)
        return errors.reshape(len(errors), -1).mean(1)


@dataclass(frozen=True)
class Elementwise(Objective):
    """An objective without a state: a function of output and target (B, ..., C) alone."""

    function: Callable[[Tensor, Tensor], Tensor]

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Objective`."""
        return self.function(output, target)


def frobenius(output: Tensor, target: Tensor) -> Tensor:
    """AIQViT Eq. 10: the Frobenius norm of each sample's error, (B,)."""
    return ((output - target).flatten(1).square().sum(1) + 1e-8).sqrt()


def squared(output: Tensor, target: Tensor) -> Tensor:
    """Squared error, (B, ..., C); the loop divides it by its first value."""
    return (output - target).square()


def relative(output: Tensor, target: Tensor) -> Tensor:
    """Squared error over the mean square of the target: of each channel (the last dimension) plus in all, (B, ..., C).

    In some ViTs one channel of a few tokens grows to hundreds of times the rest, and the model depends on it: the error
    in all sees nothing but these, the average over channels nearly nothing of them.
    """
    dims = tuple(range(target.dim() - 1))
    power = target.square().mean(dims).clamp(min=1e-12)  # (C,)
    return (output - target).square() * (1 / power + 1 / power.mean())


def tokenwise(output: Tensor, target: Tensor) -> Tensor:
    """Each channel in units of its root mean square, the squared error of a token over the token's own mean square.

    What a LayerNorm behind the unit sees, as it divides each token by its size: a few tokens of huge values weigh no
    more than others, so where these are out of reach (clipped), what can be kept is kept. Tokens below a tenth of the
    usual size count as of that.
    """
    size = target.square().mean(tuple(range(target.dim() - 1))).clamp(min=1e-12).sqrt()  # (C,)
    error = ((output - target) / size).square().mean(-1)  # (B, ...)
    return error / (target / size).square().mean(-1).clamp(min=0.01)


def token(output: Tensor, target: Tensor) -> Tensor:
    """The same without the units of channels: a token's squared error over its mean square, (B, ...).

    A thousandth of the usual mean square is added to each, for tokens of next to nothing.
    """
    size = target.square().mean(-1)  # (B, ...)
    return (output - target).square().mean(-1) / (size + 1e-3 * size.mean() + 1e-12)


def power(output: Tensor, target: Tensor) -> Tensor:
    """BRECQ's loss for activation scales: |error|^2.4, (B, ..., C)."""
    return (output - target).abs().pow(2.4)


def divergence(output: Tensor, target: Tensor) -> Tensor:
    """KL divergence of the softmax of logits (B, C) from that of the target, of one logit half the square; (B,)."""
    if output.shape[-1] == 1:
        return 0.5 * (output - target).square().sum(-1)
    return kl_div(output.log_softmax(-1), target.log_softmax(-1), log_target=True, reduction="none").sum(-1)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    name: lambda function=function: Elementwise(function) for name, function in (
        ("frobenius", frobenius), ("mse", squared), ("relative", relative), ("tokenwise", tokenwise), ("token", token),
        ("l2.4", power), ("kl", divergence))}


def objective(name: str) -> Objective:
    """The objective that a setting names. Raises `UserError` for another name."""
    if name not in OBJECTIVES:
        raise UserError(f"objective {name!r}: expected one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]()
