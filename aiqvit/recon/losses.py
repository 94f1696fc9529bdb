"""Losses of a unit's output against its target: functions of two tensors (B, ..., C) to errors (B, ...).

The mean of the errors is the loss, the mean of one sample's is that sample's part in it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import kl_div


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
    """KL divergence of the softmax of logits (B, classes) from that of the target, (B,)."""
    return kl_div(output.log_softmax(-1), target.log_softmax(-1), log_target=True, reduction="none").sum(-1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "frobenius": frobenius, "mse": squared, "relative": relative, "tokenwise": tokenwise, "token": token,
    "l2.4": power, "kl": divergence}
