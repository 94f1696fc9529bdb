"""What the rest of the network makes of a unit's error, beside the error itself: GLF-Q's loss, and one of logits.

GLF-Q (2026 preprint): L = L_g / L_g0 + 2 L_l / L_l0. The local term L_l is the squared error of the unit's output, the
global one, L_g, that of the feature in front of the head, behind the teacher's full-precision rest of the network. Each
is divided by its value on the first mini-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.quant.anatomy import layer_roles
from aiqvit.recon.gradients import tensors_of
from aiqvit.recon.objective import Objective, divergence
from aiqvit.recon.tail import Tail
from aiqvit.recon.walk import UnitData

LEAST = 1e-12  # of a first value that divides


class TailAware(Objective):
    """The two-term loss; a subclass says what is compared at the end of the tail.

    `share` is the part of each batch that the tail sees: its term is the mean over these samples. Batches are drawn at
    random, so that the gradient stays unbiased; 1 is the published form.
    """

    def __init__(self, share: float = 1.0, weight: float = 2.0) -> None:
        self.share, self.weight = share, weight  # of the local term
        self.tail: Tail | None = None
        self.first: tuple[Tensor, Tensor] | None = None  # L_g0 and L_l0
        self.wanted: dict[int, Any] = {}  # what the teacher gives, by sample: the same behind every unit

    def start(self, data: UnitData) -> None:
        """See `Objective`."""
        self.tail, self.first = data.tail, None

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Objective`; (B,)."""
        local = (output - target).square().flatten(1).mean(1)  # (B,)
        seen = ceil(self.share * len(rows))
        behind = torch.zeros_like(local)
        if seen:
            part = self.behind(output[:seen], list(rows[:seen]))  # (b,)
            behind = torch.cat([part * (len(rows) / seen), behind[seen:]])
        if self.first is None:
            self.first = tuple(term.detach().mean().clamp(min=LEAST) for term in (behind, local))
        return behind / self.first[0] + self.weight * local / self.first[1]

    def behind(self, output: Tensor, rows: list[int]) -> Tensor:
        """The error at the end of the tail, a sample: (B,)."""
        raise TypeError(f"{type(self).__name__} does not implement behind")

    def known(self, rows: list[int], at: str) -> list[Any]:
        """What the teacher gives at `at` (see `Tail`) on each of these samples, kept from the first time."""
        missing = [row for row in rows if row not in self.wanted]
        if missing:
            self.wanted |= zip(missing, self.tail.reference(missing, at).split(1), strict=True)
        return [self.wanted[row] for row in rows]


class Features(TailAware):
    """GLF-Q: the squared error of the feature that the head gets, a class token or the mean of tokens.

    `at` is the head's first layer; empty takes what the network gives.
    """

    def __init__(self, at: str, share: float = 1.0, weight: float = 2.0) -> None:
        super().__init__(share, weight)
        self.at = at

    def behind(self, output: Tensor, rows: list[int]) -> Tensor:
        """Mean over the feature's values (C,)."""
        wanted = torch.cat(self.known(rows, self.at))  # (B, C)
        return (self.tail(output, rows, self.at) - wanted).square().flatten(1).mean(1)


class Logits(TailAware):
    """The KL divergence of what the network gives, of other outputs than logits the squared error."""

    def behind(self, output: Tensor, rows: list[int]) -> Tensor:
        """Sum over the outputs of the network."""
        wanted = torch.cat(self.known(rows, ""))
        (given,) = tensors_of(self.tail(output, rows))
        if given.dim() == 2:
            return divergence(given, wanted)
        return (given - wanted).square().flatten(1).mean(1)


def head_layer(model: nn.Module) -> str:
    """The first layer of the head of an open model, which gets the feature of a sample; empty where there is none."""
    return next((name for name, role in layer_roles(model).items() if role == "head"), "")
