"""Quantized units of tiny models with their data, and a network small enough for explicit Jacobians."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aiqvit.families.opening import open_model, quantize_model
from aiqvit.quant.anatomy import units_of
from aiqvit.quant.card import sites
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.tail import Tail
from aiqvit.recon.walk import UnitData, calibrate_unit, walk
from tests.models import clouds, images, tiny, tiny_points, uniform


def call(model: nn.Module, batch: Tensor) -> Tensor:
    """The model on a batch."""
    return model(batch)


def unit_data(kind: str, unit: str, drop: float = 0.0, bits: int = 3) -> UnitData:
    """A calibrated unit of a tiny model, 12 samples in batches of 8 and 4; `drop` as while training with QDrop."""
    points = kind in ("classifier", "segmenter")
    teacher = (tiny_points(kind) if points else tiny(kind)).requires_grad_(False)
    batches = [clouds(8, 0), clouds(4, 1)] if points else [images(8, 0), images(4, 1)]
    units = teacher.units() if points else units_of(open_model(copy.deepcopy(teacher)))
    student = quantize_model(copy.deepcopy(teacher), uniform(bits, bits))
    data = next(data for data in walk(student, teacher, units, batches, call, ActivationStore(2**30))
                if data.name == unit)
    calibrate_unit(data, 8)
    for _, quantizer in sites(data.unit):
        if quantizer.site.operand == "activation":
            quantizer.dropping(drop, torch.Generator().manual_seed(0))
    return data


class Two(nn.Module):
    """Two linear layers with a nonlinearity between; samples (B, T, 3) of any T become logits (B, 4)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 3) to (B, 4)."""
        return self.b(self.a(x).tanh()).sum(1) * 10


def two_data(lengths: Sequence[int] = (4, 4)) -> UnitData:
    """The first layer of `Two` with a disturbed weight as the unit; a batch of 6 samples of each length, in float64."""
    model = Two().double().requires_grad_(False)
    unit, generator = copy.deepcopy(model.a), torch.Generator().manual_seed(1)
    unit.weight += 0.3 * torch.randn(2, 3, generator=generator, dtype=torch.float64)
    batches = [torch.randn(6, length, 3, generator=generator, dtype=torch.float64) for length in lengths]
    inputs, others, targets = (Activations(ActivationStore(2**20)) for _ in range(3))
    for batch in batches:
        inputs.append((batch + 100,))  # what objectives must not look at
        others.append((batch,))
        targets.append((model.a(batch),))
    return UnitData("a", unit, inputs, others, targets, Tail(model, ("a", "b"), "a", batches, call))


def explicit(data: UnitData, row: int) -> tuple[Tensor, Tensor]:
    """Error and gradient of KL at temperature 20 of one sample of `two_data`, both (N,), by the chain rule."""
    (x,), _ = data.fp_inputs.gather([row])
    (z,), _ = data.targets.gather([row])
    output = data.unit(x)
    head = data.tail.teacher.b

    def logits(flat: Tensor) -> Tensor:
        return head(flat.view_as(z).tanh()).sum(1).flatten() * 10

    p = (logits(z.flatten()) / 20).softmax(0)
    q = (logits(output.flatten()) / 20).softmax(0)
    jacobian = torch.autograd.functional.jacobian(logits, output.flatten())  # (4, N)
    return (output - z).flatten(), (q - p) / 20 @ jacobian
