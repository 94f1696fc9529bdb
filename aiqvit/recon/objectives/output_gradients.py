"""How the network's output depends on the output of a unit: gradients image by image, with everything else exact."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from aiqvit.recon.capture import device_of, first
from aiqvit.recon.gradients import distance, tensors_of
from aiqvit.recon.walk import UnitData

TEMPERATURE = 20.0  # both logits are divided by it, as in the codes of APHQ-ViT and FIMA-Q


class OutputGradients:
    """z_q - z and dL/dz_q of a quantized unit's output z_q on full-precision inputs.

    L is the distance between what the full-precision rest of the network makes of z_q and of the target z: KL
    divergence at temperature 20 of logits (B, classes), half the squared error of other outputs. It is summed over
    images, so each has the gradient of its own L; the codes take the mean over a batch, a factor that the objectives
    here divide out. Where the unit trains in bfloat16, the rest of the network multiplies in it too, if all of it can.
    Only one batch is held at a time, besides what the network makes of the targets.
    """

    def __init__(self, data: UnitData, images: int | None = None, batch: int = 16) -> None:
        """Look at the first `images` calibration images (None: all); of each shape at least at one.

        At once at `batch`, or fewer where the calibration set comes in smaller batches.
        """
        self.data = data
        self.half = data.bf16 and data.tail.takes_bfloat16()
        count = len(data.fp_inputs)
        self.groups = data.fp_inputs.stackable(range(count))
        self.group_of = {row: group for group, rows in enumerate(self.groups) for row in rows}
        wanted = min(images or count, count)
        chosen = [rows[: math.ceil(wanted * len(rows) / count)] for rows in self.groups]
        batch = min(batch, max(map(data.fp_inputs.size, range(len(data.fp_inputs.batches)))))
        self.batches = [rows[i : i + batch] for rows in chosen for i in range(0, len(rows), batch)]
        self.references: list[list[Tensor]] = []  # of each batch

    def passes(self, dropping: bool = False) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Of each batch: which group of images of one shape it is of, errors (B, ...) and gradients (B, ...).

        `dropping` leaves out quantizers at random as they do while training (QDrop).
        """
        for at, rows in enumerate(self.batches):
            args, kwargs = self.data.fp_inputs.gather(rows, device_of(self.data.unit))
            with torch.set_grad_enabled(dropping):
                output = first(self.data.unit(*args, **kwargs)).detach()
            (target,), _ = self.data.targets.gather(rows, output.device)
            yield self.group_of[rows[0]], output - target, self._gradient(output, rows, self._reference(at, target))

    def _reference(self, at: int, target: Tensor) -> list[Tensor]:
        """The network's output with the target in place of the unit's output; batches are asked for in order."""
        if at == len(self.references):
            with torch.no_grad(), self._precision():
                output = self.data.tail(target.clone(), self.batches[at])  # what follows may work in place
            store = self.data.targets.store
            self.references.append([store.keep(tensor.float().cpu()) for tensor in tensors_of(output)])
        return [tensor.to(target.device) for tensor in self.references[at]]

    def _precision(self) -> torch.autocast:
        return torch.autocast(device_of(self.data.unit).type, torch.bfloat16, enabled=self.half)

    @torch.enable_grad()
    def _gradient(self, output: Tensor, rows: Sequence[int], reference: Any) -> Tensor:
        output = output.requires_grad_()
        with self._precision():
            found = [tensor.float() for tensor in tensors_of(self.data.tail(output.clone(), rows))]
        loss = distance(found, reference, TEMPERATURE)
        return torch.autograd.grad(loss, output)[0]
