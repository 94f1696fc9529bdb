"""What units are called with on the walk, and which units count as the head."""

import copy

import pytest
import torch

from aiqvit.families.opening import open_model, quantize_model
from aiqvit.quant.anatomy import units_of
from aiqvit.quant.surgery import calibrate
from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.capture import unit_inputs
from aiqvit.recon.walk import gives_logits, is_head, walk
from tests.models import FAMILIES, clouds, images, tiny, tiny_points, uniform, units


def counted(model, names):
    model = quantize_model(model, uniform())
    parts = {name: model.get_submodule(name) for name in names}
    return [n for n, u in parts.items() if gives_logits(u)], [n for n, u in parts.items() if is_head(u)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_linear_of_an_image_classifier_is_the_head(family):
    heads = [name for name in units(family) if name.startswith("head")]
    assert counted(tiny(family), units(family)) == (heads, heads)


@pytest.mark.parametrize("kind", ("classifier", "segmenter"))
def test_a_classifier_of_several_layers_gives_logits_and_is_no_head(kind):
    model = tiny_points(kind)
    assert counted(model, model.units()) == (["classifier"], [])


def call(model, batch):
    return model(batch)


@pytest.mark.parametrize("kind", (*FAMILIES, "classifier", "segmenter"))
def test_a_unit_gets_on_the_walk_what_it_gets_in_a_whole_forward_pass(kind):
    points = kind in ("classifier", "segmenter")
    teacher = tiny_points(kind) if points else tiny(kind)
    batches = [clouds(4, 0), clouds(2, 1)] if points else [images(4, 0), images(2, 1)]
    names, store = teacher.units() if points else units_of(open_model(tiny(kind))), ActivationStore(2**30)
    student = quantize_model(copy.deepcopy(teacher), uniform(3, 4))
    calibrate(student, lambda model: model(batches[0]))
    for data in walk(student, teacher, names, batches, call, store):
        for model, found in ((student, data.inputs), (teacher, data.fp_inputs)):
            expected = unit_inputs(model, data.name, batches, call, store)
            assert found.stackable(range(6)) == expected.stackable(range(6))
            for own, other in zip(found.batches, expected.batches, strict=True):
                assert len(own) == len(other) and all(map(torch.equal, own, other))


def test_units_in_front_are_not_run_again_for_a_unit_behind_a_pooling(monkeypatch):
    teacher, runs = tiny("vit"), []
    student = quantize_model(copy.deepcopy(teacher), uniform(8, 8))
    calibrate(student, lambda model: model(images(2)))
    for data in walk(student, teacher, units("vit"), [images(2, i) for i in range(5)], call, ActivationStore(2**30)):
        if data.name == "blocks.1":
            teacher.blocks[0].attn.qkv.register_forward_hook(lambda *_: runs.append(1))
    assert data.name == "head" and len(runs) <= 3  # the trials, on two samples, not five batches
