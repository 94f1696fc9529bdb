"""What the rest of the network makes of a unit's error, beside the error itself: GLF-Q's loss, and one of logits.

GLF-Q (2026 preprint): L = L_g / L_g0 + 2 L_l / L_l0. The local term L_l is the squared error of the unit's output, the
global one, L_g, that of the feature in front of the head, behind the teacher's full-precision rest of the network. Each
is divided by its value on the first mini-batch. Of detectors there are two features, what the predictors of boxes and
of masks get of regions: L = .5 L_box / L_box0 + .5 L_mask / L_mask0 + 2 L_l / L_l0. Units of the FPN have 2 L_l / L_l0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil

import torch
from torch import Tensor, nn

from aiqvit.quant.anatomy import layer_roles, units_of
from aiqvit.quant.surgery import quant_layers
from aiqvit.recon.capture import device_of
from aiqvit.recon.gradients import distances, tensors_of
from aiqvit.recon.objective import Objective
from aiqvit.recon.tail import End, Tail
from aiqvit.recon.walk import UnitData

LEAST = 1e-12  # of a first value that divides
LOCAL = "neck"  # the role of layers whose units have the local term only


class TailAware(Objective):
    """The loss; a subclass says what is compared at the end of the tail.

    `share` is the part of each batch that the tail sees: its terms are means over these samples. Batches are drawn at
    random, so that the gradient stays unbiased; 1 is the published form. Units in the first `skip` of all have no tail,
    which is the longest there; 0 is the published form. `weight` is that of the local term. With `half` the tail
    multiplies matrices in bfloat16, for the teacher's outputs as well, which is faster on a CPU that can; where the
    network has an operator that cannot, it stays in float32.
    """

    def __init__(self, end: End = "", share: float = 1.0, weight: float = 2.0, skip: float = 0.0,
                 half: bool = False) -> None:
        """`end` is where the tail ends (see `Tail`), by default with what the network gives."""
        self.end, self.share, self.weight, self.skip, self.half = end, share, weight, skip, half
        self.halved = False  # of this unit
        self.starts_at = 1 + weight
        self.tail: Tail | None = None
        self.seen = share
        self.first: tuple[Tensor, Tensor] | None = None  # of the terms behind the tail (K,), and L_l0
        self.wanted: dict[int, list[Tensor]] = {}  # what the teacher gives, by sample; for every unit, or one

    def start(self, data: UnitData) -> None:
        """See `Objective`."""
        self.tail, self.store, self.first = data.tail, data.targets.store, None
        self.device = device_of(data.unit)
        if self.half:
            self.wanted, self.halved = {}, data.tail.takes_bfloat16(self.end)
        local = any(layer.weight_quantizer.role == LOCAL for _, layer in quant_layers(data.unit))
        self.seen = 0.0 if local or data.tail.depth < self.skip else self.share

    def errors(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """See `Objective`; (B,)."""
        local = (output - target).square().flatten(1).mean(1)  # (B,)
        seen = ceil(self.seen * len(rows))
        behind = self.behind(output[:seen], target[:seen], rows[:seen]) if seen else local.new_zeros(1, 1)  # (b, K)
        if self.first is None:
            self.first = tuple(term.detach().mean(0).clamp(min=LEAST) for term in (behind, local))
        errors = self.weight * local / self.first[1]
        if not seen:
            return errors
        return torch.cat([errors[:seen] + (behind / self.first[0]).mean(1) * (len(rows) / seen), errors[seen:]])

    def behind(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """K errors at the end of the tail, a sample: (B, K)."""
        raise TypeError(f"{type(self).__name__} does not implement behind")

    def ends(self, output: Tensor, target: Tensor,
             rows: Sequence[int]) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
        """Each tensor that comes out of the tail, what the teacher has there, and how many rows each sample has."""
        new = [i for i, row in enumerate(rows) if row not in self.wanted]
        self._ask(target[new], [rows[i] for i in new])
        wanted = zip(*(self.wanted[row] for row in rows), strict=True)
        with self._precision():
            found = tensors_of(self.tail(output, rows, self.end))
        for given, parts in zip(found, wanted, strict=True):
            yield given.float(), torch.cat(parts).to(given.device), list(map(len, parts))

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.halved)

    @torch.no_grad()
    def _ask(self, target: Tensor, rows: Sequence[int]) -> None:
        """Keep what the teacher gives on these samples; one by one where it gives rows of regions, not of samples.

        In bfloat16 that is what the tail makes of the target, since all that is in front of it is more precise.
        """
        if not rows:
            return
        with self._precision():
            found = self.tail(target, rows, self.end) if self.halved else self.tail.reference(rows, self.end)
        found = [tensor.float().cpu() for tensor in tensors_of(found)]
        if len(rows) > 1 and any(len(tensor) != len(rows) for tensor in found):
            for i, row in enumerate(rows):
                self._ask(target[i : i + 1], [row])
            return
        parts = zip(*(tensor.split(len(tensor) // len(rows)) for tensor in found), strict=True)
        self.wanted |= {row: [self.store.keep(tensor.clone()) for tensor in part]
                        for row, part in zip(rows, parts, strict=True)}


class Features(TailAware):
    """GLF-Q: squared errors of the features that the head gets: a class token, the mean of tokens, all points, regions.

    There is one term for each tensor at the end of the tail, and the loss has their mean.
    """

    def behind(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """Means over a sample's values of each tensor."""
        terms = [[part.mean() for part in (given - wanted).square().flatten(1).mean(1).split(counts)]
                 for given, wanted, counts in self.ends(output, target, rows)]
        return torch.stack([torch.stack(term) for term in terms], 1)


class Logits(TailAware):
    """The KL divergence of the logits that the network gives, of other outputs half the squared error, in one term."""

    def behind(self, output: Tensor, target: Tensor, rows: Sequence[int]) -> Tensor:
        """Sums over all that the network gives of a sample."""
        terms = [[part.sum() for part in distances(given, wanted).split(counts)]
                 for given, wanted, counts in self.ends(output, target, rows)]
        return torch.stack([torch.stack(term) for term in terms], 1).sum(1, keepdim=True)


@torch.no_grad()
def head_layer(model: nn.Module, forward: Callable[[nn.Module], object]) -> str:
    """The unit of an open model that ends in the head: it gets the feature of a sample.

    Empty where there is none, or where a pass, `forward(model)`, does not come to it.
    """
    heads = [name for name, role in layer_roles(model).items() if role == "head"]
    found = next((unit for unit in units_of(model) for head in heads if f"{head}.".startswith(f"{unit}.")), "")
    calls: list[bool] = []
    hook = model.get_submodule(found).register_forward_pre_hook(lambda *_: calls.append(True))
    try:
        forward(model)
    finally:
        hook.remove()
    return found if calls else ""
