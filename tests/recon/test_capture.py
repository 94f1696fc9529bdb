"""Capture and walk: the right tensors, within the memory bound."""

import copy

import pytest
import torch

from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.surgery import observe, quantize_model
from aiqvit.recon.capture import Samples, Spill, chained, unit_inputs, unit_outputs
from aiqvit.recon.walk import walk
from tests.models import FAMILIES, images, tiny, units

SCHEME = {"weight": lambda: Uniform(4, 0), "activation": lambda: Uniform(4)}
BATCHES = [images(4, 0), images(4, 1), images(2, 2)]


def call(model, batch):
    return model(batch)


def test_spill_keeps_values_and_stays_within_its_limit():
    spill = Spill(1000)
    kept = [spill.keep(torch.full((50,), float(i))) for i in range(8)]  # 200 bytes each
    assert spill.used == 1000 and spill.spilled == 600
    assert [int(t[7]) for t in kept] == list(range(8))
    del kept
    assert spill.used == 0


def test_gather_gives_the_named_samples_with_constants():
    samples = Samples(Spill(0))  # everything on disk
    x = torch.arange(10.0).reshape(10, 1)
    samples.append((x[:4], 7), {"flag": True})
    samples.append((x[4:], 7), {"flag": True})
    args, kwargs = samples.gather([9, 0, 4])
    assert args[0].flatten().tolist() == [9, 0, 4] and args[1] == 7 and kwargs == {"flag": True}
    assert len(samples) == 10 and samples.spill.used == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_units_that_follow_each_other_are_found(family):
    expected = {
        "vit": {"blocks.1"},
        "deit": {"blocks.1"},
        "swin": {"layers.0.blocks.0", "layers.0.blocks.1", "layers.1.downsample", "layers.1.blocks.0",
                 "layers.1.blocks.1"},
    }[family]
    found = chained(tiny(family), units(family), BATCHES[0], call)
    assert expected <= found | {"layers.0.blocks.0"} and not any(name.startswith("head") for name in found)


@pytest.mark.parametrize("limit", (0, 2**30))
@pytest.mark.parametrize("family", FAMILIES)
def test_walk_gives_what_full_forward_passes_give(family, limit):
    teacher = tiny(family)
    student = quantize_model(copy.deepcopy(teacher), SCHEME)
    observe(student, lambda m: m(images(8)))
    for data in walk(student, teacher, units(family), BATCHES, call, Spill(limit)):
        inputs = unit_inputs(student, data.name, BATCHES, call, Spill(2**30))
        fp_inputs = unit_inputs(teacher, data.name, BATCHES, call, Spill(2**30))
        everything = list(range(10))
        for ours, direct in ((data.inputs, inputs), (data.fp_inputs, fp_inputs)):
            torch.testing.assert_close(ours.gather(everything)[0][0], direct.gather(everything)[0][0])
        targets = unit_outputs(teacher.get_submodule(data.name), fp_inputs, Spill(2**30))
        torch.testing.assert_close(data.targets.gather(everything)[0][0], targets.gather(everything)[0][0])
        for parameter in data.unit.parameters():  # what reconstruction changes reaches the next unit
            parameter.data.mul_(0.9)


def test_target_fp_of_q_uses_the_quantized_inputs():
    teacher = tiny("vit")
    student = quantize_model(copy.deepcopy(teacher), SCHEME)
    observe(student, lambda m: m(images(8)))
    data = list(walk(student, teacher, units("vit"), BATCHES, call, Spill(2**30), "fp_of_q"))[2]
    expected = unit_outputs(teacher.get_submodule(data.name), data.inputs, Spill(2**30))
    torch.testing.assert_close(data.targets.gather([3])[0][0], expected.gather([3])[0][0])
