"""A layer that differs from torch's is named, and no other; files that are not of the model are refused."""

from copy import deepcopy

import onnx
import pytest
import torch

from aiqvit.deploy.proof.graph import landing
from aiqvit.deploy.proof.parity import _on_grid, layer_parity, match
from aiqvit.interfaces import UserError
from tests.deploy.proof.handmade import LAYERS, change


def test_every_layer_and_product_of_a_right_file_is_equal(made):
    found = layer_parity(made.model, made.path, made.images)
    assert {one.name for one in found.matches} == set(LAYERS) and found.missed == []
    assert max(one.elsewhere for one in found.matches) < 1e-6
    assert str(found).startswith("5 of 5 layers and products equal torch's on 16 images: flips 0.000%")


@pytest.mark.parametrize(("name", "position", "by", "layer"), [
    ("fc2.codes", (3, 4), 1, "fc2"),
    ("fc1.bias", (2,), 1e-3, "fc1"),
    ("proj.scale", (1,), 1e-4, "proj"),
    ("proj.x.scale", (), 1e-3, "proj"),
    ("av.b.scale", (), 1e-3, "av"),
])
def test_one_number_that_differs_names_its_layer(made, name, position, by, layer):
    found = layer_parity(made.model, change(made.path, name, position, by), made.images)
    assert [text.split()[0] for text in found.missed] == [layer]
    assert f"DIFFERENT: {layer} (" in str(found)


def test_a_wrong_weight_shows_in_its_feature_where_flips_are_few():
    expected = torch.rand(1000, 500, generator=torch.Generator().manual_seed(0))
    flipped, wrong = expected.clone(), expected.clone()
    flipped[3] += 1e-3  # a token, one of whose codes flipped
    wrong[:, 3] += 1.5e-4  # a feature
    assert match("layer", flipped, expected).fine
    found = match("layer", wrong, expected)
    assert found.flips < 0.01 and not found.fine and found.feature > 1e-4


def test_an_output_that_the_runtime_rounds_is_compared_with_the_rounded_one(mini):
    graph = onnx.load(mini.exported.path)
    assert landing(graph, "blocks.0.attn.av:out") == "blocks.0.attn.proj"
    assert landing(graph, "blocks.0.attn.qk:out") == ""


def test_every_layer_and_product_of_the_mini_model_is_equal(mini):
    found = layer_parity(mini.model, mini.exported.path, mini.images)
    assert found.missed == [] and {one.name for one in found.matches} == mini.exported.products.keys()


def test_images_of_another_shape_are_refused(made):
    with pytest.raises(UserError, match=r"the model refuses a batch of shape \(1, 6, 15\)"):
        layer_parity(made.model, made.path, made.images[..., :15])


def test_a_file_of_another_model_is_refused(made, mini):
    with pytest.raises(UserError, match="has no value named 'fc1:in': it is not an export of this model"):
        layer_parity(made.model, mini.exported.path, made.images)


def test_a_float_model_has_nothing_to_compare(made):
    with pytest.raises(UserError, match="no quantized layer"):
        layer_parity(torch.nn.Linear(16, 2), made.path, made.images)


def test_codes_beyond_those_of_the_reader_are_on_its_grid_too(made):
    reader = made.model.proj
    scale = reader.input_quantizer.scale
    codes = torch.arange(-400, 400.0)
    assert _on_grid(reader, codes * scale) and not _on_grid(reader, (codes + 0.3) * scale)
    assert not _on_grid(made.model.qk, codes)


def test_a_layer_that_no_forward_pass_calls_is_not_asked_for(made):
    spare = deepcopy(made.model)
    spare.unused = deepcopy(spare.fc1)
    assert {one.name for one in layer_parity(spare, made.path, made.images).matches} == set(LAYERS)
