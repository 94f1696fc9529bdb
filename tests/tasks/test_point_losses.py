"""Every objective on both Point Transformers, and what of the rewriting acts on them."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from aiqvit.baselines.blockwise import Blockwise, Loss

from aiqvit.families.opening import open_model
from aiqvit.interfaces import Bits, Job
from aiqvit.recon.objectives.tail_aware import head_layer
from aiqvit.recon.rewriting import quantized
from aiqvit.recon.tail import Tail
from tests.models import clouds, tiny_points


@pytest.mark.parametrize("loss", get_args(Loss))
@pytest.mark.parametrize(("kind", "units"), [("classifier", ("blocks.0", "classifier")),
                                             ("segmenter", ("downs.0", "up_blocks.0", "classifier"))])
def test_every_objective_trains_a_point_transformer(kind, units, loss):
    job = Job(tiny_points(kind).requires_grad_(False), units, [clouds(4, 0), clouds(2, 1)], Bits(4, 4))
    method = Blockwise(**{**Blockwise.presets["smoke"], "images": 6}, objective=loss, rotate=True, relu=True)
    with torch.no_grad():
        assert quantized(method, job)(clouds(2, 5)).isfinite().all()
    assert [entry["unit"] for entry in job.log] == list(units)
    assert all(entry["loss_before"] > 0 and entry["kept"] == (entry["loss_after"] <= entry["loss_before"])
               for entry in job.log)
    name = type(tiny_points(kind)).__name__
    assert job.rewritten == [
        f"the residual stream of {name} cannot be rotated: it has no LayerNorms in front of layers",
        "no heads rotated: attention has none", "ReLU: no GELU stands in front of a layer"]


@pytest.mark.parametrize(("kind", "shape"), [("classifier", (1, 16)), ("segmenter", (1, 32, 8))])
def test_the_feature_is_what_the_classifier_gets(kind, shape):
    model = tiny_points(kind).requires_grad_(False)
    assert head_layer(open_model(copy.deepcopy(model)), lambda net: net(clouds(2))) == "classifier"
    tail = Tail(model, model.units(), "blocks.0", [clouds(2)], lambda net, x: net(x))
    feature = tail.reference([0], "classifier")
    assert feature.shape == shape
    torch.testing.assert_close(model.classifier(feature), model(clouds(2)[:1]))
