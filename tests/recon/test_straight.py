"""Training of weights through straight-through rounding: what moves, what it moves by, what is left at a float site."""

import copy

import pytest
import torch

from aiqvit.families.opening import quantize_model
from aiqvit.quant.card import sites
from aiqvit.quant.surgery import calibrate, quant_layers
from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.loop import Schedule
from aiqvit.recon.objective import objective
from aiqvit.recon.straight import WeightRates, train_weights
from aiqvit.recon.walk import walk
from tests.models import images, tiny, uniform, units


def trained(rates: WeightRates, steps: int = 1, put_back: bool = True):
    """The second block before and after, and its losses."""
    teacher, batches = tiny("vit"), [images(8)]
    student = quantize_model(copy.deepcopy(teacher), uniform(3, 4))
    calibrate(student, lambda model: model(batches[0]))
    for data in walk(student, teacher, units("vit"), batches, lambda model, x: model(x), ActivationStore(2**30)):
        if data.name == "blocks.0":
            before = copy.deepcopy(data.unit)
            schedule = Schedule(steps, 4, objective("mse"))
            losses = train_weights(data, schedule, rates, torch.Generator().manual_seed(0), lambda items, _: items,
                                   put_back)
            return before, data.unit, losses
    raise AssertionError


def test_the_first_step_of_adam_moves_each_parameter_by_its_own_rate():
    before, after, _ = trained(WeightRates(weight=1e-3, scale=1e-5, weight_level=0.01), put_back=False)
    for (_, old), (_, new) in zip(quant_layers(before), quant_layers(after), strict=True):
        assert (new.weight - old.weight).abs().max().item() == pytest.approx(1e-3, rel=1e-3)
        assert (new.bias - old.bias).abs().max().item() == pytest.approx(1e-3, rel=1e-3)
    for (_, old), (_, new) in zip(sites(before), sites(after), strict=True):
        moved = (new.scale - old.scale).abs().max().item()
        weight = old.site.operand == "weight"
        expected = 0.01 * old.scale.mean().item() / old.levels if weight else 1e-5
        assert moved == pytest.approx(expected, rel=2e-2)


def test_longer_training_lowers_the_loss_and_a_loss_that_rises_brings_the_unit_back():
    before, after, losses = trained(WeightRates(weight=2e-3, scale=0.0, level=0.1), steps=60)
    assert losses["kept"] and losses["loss_after"] < 0.8 * losses["loss_before"]
    before, after, losses = trained(WeightRates(weight=1.0, scale=0.0), steps=5)
    assert not losses["kept"]
    assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), after.state_dict().values(), strict=True)
               if isinstance(a, torch.Tensor))
