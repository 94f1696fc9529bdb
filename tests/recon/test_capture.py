"""Capture and walk: the right tensors, within the memory bound."""

import copy
import errno
import os

import pytest
import torch

from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import UserError
from aiqvit.quant.surgery import calibrate
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.capture import chained, unit_inputs, unit_outputs
from aiqvit.recon.walk import walk
from tests.models import FAMILIES, clouds, images, tiny, tiny_points, uniform, units

SCHEME = uniform()
BATCHES = [images(4, 0), images(4, 1), images(2, 2)]


def call(model, batch):
    return model(batch)


def test_a_full_disk_is_told_before_anything_is_written_to_it(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="no room among the temporary files .No space left on device.: set a larger"):
        ActivationStore(0).keep(torch.ones(3))


def test_spill_keeps_values_and_stays_within_its_limit():
    spill = ActivationStore(1000)
    kept = [spill.keep(torch.full((50,), float(i))) for i in range(8)]  # 200 bytes each
    assert spill.used == 1000 and spill.spilled == 600
    assert [int(t[7]) for t in kept] == list(range(8))
    del kept
    assert spill.used == 0


def test_gather_gives_the_named_samples_with_constants():
    samples = Activations(ActivationStore(0))  # everything on disk
    x = torch.arange(10.0).reshape(10, 1)
    samples.append((x[:4], 7), {"flag": True})
    samples.append((x[4:], 7), {"flag": True})
    args, kwargs = samples.gather([9, 0, 4])
    assert args[0].flatten().tolist() == [9, 0, 4] and args[1] == 7 and kwargs == {"flag": True}
    assert len(samples) == 10 and samples.store.used == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_units_that_follow_each_other_are_found(family):
    expected = {
        "vit": {"blocks.1"},
        "deit": {"blocks.1"},
        "swin": {"layers.0.blocks.0", "layers.0.blocks.1", "layers.1.downsample", "layers.1.blocks.0",
                 "layers.1.blocks.1"},
    }[family]
    found = set(chained(tiny(family), units(family), BATCHES[0], call))
    assert expected <= found | {"layers.0.blocks.0"} and not any(name.startswith("head") for name in found)


@pytest.mark.parametrize("limit", (0, 2**30))
@pytest.mark.parametrize("family", FAMILIES)
def test_walk_gives_what_full_forward_passes_give(family, limit):
    teacher = tiny(family)
    student = quantize_model(copy.deepcopy(teacher), SCHEME)
    calibrate(student, lambda m: m(images(8)))
    for data in walk(student, teacher, units(family), BATCHES, call, ActivationStore(limit)):
        inputs = unit_inputs(student, data.name, BATCHES, call, ActivationStore(2**30))
        fp_inputs = unit_inputs(teacher, data.name, BATCHES, call, ActivationStore(2**30))
        everything = list(range(10))
        for ours, direct in ((data.inputs, inputs), (data.fp_inputs, fp_inputs)):
            torch.testing.assert_close(ours.gather(everything)[0][0], direct.gather(everything)[0][0])
        targets = unit_outputs(teacher.get_submodule(data.name), fp_inputs, ActivationStore(2**30))
        torch.testing.assert_close(data.targets.gather(everything)[0][0], targets.gather(everything)[0][0])
        for parameter in data.unit.parameters():  # what reconstruction changes reaches the next unit
            parameter.data.mul_(0.9)


def test_target_fp_of_q_uses_the_quantized_inputs():
    teacher = tiny("vit")
    student = quantize_model(copy.deepcopy(teacher), SCHEME)
    calibrate(student, lambda m: m(images(8)))
    data = list(walk(student, teacher, units("vit"), BATCHES, call, ActivationStore(2**30), "fp_of_q"))[2]
    expected = unit_outputs(teacher.get_submodule(data.name), data.inputs, ActivationStore(2**30))
    torch.testing.assert_close(data.targets.gather([3])[0][0], expected.gather([3])[0][0])


class Graph(torch.nn.Module):
    """A unit whose second argument follows from the first one's values, without a gradient."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(4, 4), Pick()

    def forward(self, x):
        y = self.a(x)
        return self.b(y, y.argsort(-1))


class Pick(torch.nn.Module):
    def forward(self, x, order):
        return x.gather(-1, order)


def test_units_with_other_inputs_are_linked_only_when_these_do_not_depend_on_units():
    model = tiny_points("segmenter")
    assert chained(model, model.units(), clouds(4), call) == {
        "blocks.0": True, "downs.0": True, "blocks.1": True, "bottleneck": False, "bottom": True, "up_blocks.0": True,
        "classifier": False}
    assert chained(Graph(), ("a", "b"), torch.randn(3, 4), call) == {}


@pytest.mark.parametrize("kind", ("classifier", "segmenter"))
def test_walk_through_units_with_several_inputs(kind):
    teacher, batches = tiny_points(kind), [clouds(4, 0), clouds(4, 1), clouds(2, 2)]
    student = quantize_model(copy.deepcopy(teacher), SCHEME)
    calibrate(student, lambda m: m(batches[0]))
    for data in walk(student, teacher, teacher.units(), batches, call, ActivationStore(2**30)):
        for ours, model in ((data.inputs, student), (data.fp_inputs, teacher)):
            direct = unit_inputs(model, data.name, batches, call, ActivationStore(2**30))
            (mine, kwargs), (wanted, _) = ours.gather([9, 0, 4, 3]), direct.gather([9, 0, 4, 3])
            assert kwargs == {} and len(mine) == len(wanted)
            for a, b in zip(mine, wanted, strict=True):
                torch.testing.assert_close(a, b)
        for parameter in data.unit.parameters():
            parameter.data.mul_(0.9)


def test_what_all_samples_share_is_kept_a_batch_and_told_apart_by_content():
    rope = [torch.full((6, 2), float(i)) for i in range(2)]
    found = Activations(ActivationStore(2**20))
    for i in range(2):
        found.append((torch.arange(6.0)[:, None] + 10 * i,), {"rope": rope[i], "mask": None})  # as long as a batch
    first, second = found.gather([1, 3])[1]["rope"], found.gather([7])[1]["rope"]
    assert torch.equal(first, rope[0]) and torch.equal(second, rope[1])
    assert found.stackable([0, 7, 2, 8]) == [[0, 2], [7, 8]]
    same = Activations(ActivationStore(2**20))
    for _ in range(2):
        same.append((torch.rand(3, 4),), {"rope": torch.ones(5, 2)})  # equal content, another tensor
    assert same.stackable(range(6)) == [list(range(6))]


def test_a_mask_of_each_sample_goes_with_its_sample():
    found = Activations(ActivationStore(2**20))
    found.append((torch.arange(4.0)[:, None],), {"attn_mask": torch.arange(4.0).view(4, 1, 1, 1)})
    args, kwargs = found.gather([2, 0])
    assert args[0].flatten().tolist() == kwargs["attn_mask"].flatten().tolist() == [2, 0]
