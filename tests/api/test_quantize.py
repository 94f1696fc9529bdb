"""`aiqvit.quantize` on networks of others, and what stays in full precision."""

from __future__ import annotations

import copy
import warnings
from functools import partial

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import aiqvit
from aiqvit.deploy.info import info_of
from aiqvit.interfaces import UserError
from aiqvit.quant.anatomy import units_of
from aiqvit.quant.card import scheme_card, sites
from aiqvit.quant.layers import QuantLayer
from aiqvit.quant.quantizers import Float
from tests.api.networks import SIZE, Depth, Own, Tied, images, quantized, random, same, through_a_file
from tests.families import networks


@pytest.fixture(scope="module")
def depth():
    return random(Depth).eval()


@pytest.mark.parametrize("method", ("repqvit", "aiqvit"))
def test_a_vit_as_the_backbone_of_somebody_s_network(method, depth, tmp_path):
    x = images(4, SIZE)
    q = quantized(depth, x, method)
    found = aiqvit.coverage(q)
    assert found.quantized > 0.999 and found.first.startswith("decoder.3 (")  # the transposed convolution
    assert isinstance(q.project, QuantLayer) and isinstance(q.decoder[0], QuantLayer)
    assert any(units_of(q)) and all(unit.startswith("backbone.") for unit in units_of(q))
    with pytest.raises(UserError, match="nothing builds by name: hand over a fresh instance"):
        through_a_file(q, tmp_path)
    assert same(through_a_file(q, tmp_path, Depth()), q, x)


@pytest.mark.parametrize("method", aiqvit.list_methods())
def test_a_part_that_is_never_called_is_left_out(method, tmp_path):
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=7)
            self.last = nn.Linear(24, 5)

        def forward(self, x):
            return self.last(self.vit.forward_intermediates(x, indices=[0], norm=False, stop_early=True,
                                                            output_fmt="NLC", intermediates_only=True)[0])

    q = quantized(random(Features), images(), method)
    assert same(q, through_a_file(q, tmp_path, Features()), images())


def test_what_is_kept_stays_in_full_precision(depth, tmp_path):
    x = images(4, SIZE)
    q = quantized(depth, x, "repqvit", keep=["decoder*", "project", "backbone.blocks.0.attn*"])
    for name, quantizer in sites(q):
        kept = name.startswith(("decoder.", "project.", "backbone.blocks.0.attn."))
        assert isinstance(quantizer, Float) == kept, name
    assert torch.equal(q.project.weight, depth.project.weight)
    found = aiqvit.coverage(q)
    assert found.missed == 0 and found.declared > 0.1 and found.quantized + found.declared == pytest.approx(1)
    assert same(through_a_file(q, tmp_path, Depth()), q, x)


@pytest.mark.parametrize("method", ("brecq", "aiqvit", "isvit"))
def test_blocks_of_a_network_that_no_family_knows_are_reconstructed(method, tmp_path):
    model, x = random(Own), images()
    q = quantized(model, x, method)
    assert units_of(q) == ("layers.0", "layers.1", "layers.2")
    plain = quantized(model, x)
    weights = [net.layers[1].mlp.fc1.quantized_weight() for net in (q, plain)]
    assert not torch.equal(*weights)  # it was trained
    assert same(through_a_file(q, tmp_path, Own()), q, x)


@pytest.mark.parametrize("method", ("minmax", "repqvit"))
def test_shared_modules_and_parameters_are_quantized_at_each_place(method, tmp_path):
    model, x = random(Tied), images()
    q = quantized(model, x, method)
    assert all(isinstance(layer, QuantLayer) for layer in (q.first, q.second, q.third)) and q.first is not q.second
    assert model.first is model.second and model.third.weight is model.first.weight
    assert same(through_a_file(q, tmp_path, Tied()), q, x)


@pytest.mark.parametrize("kind", (torch.float16, torch.bfloat16, torch.float64))
@pytest.mark.parametrize("name", ("vit", "eva02", "swin"))
def test_models_of_another_precision(name, kind, tmp_path):
    model, x = networks.build(name).to(kind), images()
    q = quantized(model, x.to(kind))
    assert {tensor.dtype for tensor in q.parameters()} == {torch.float32} and next(model.parameters()).dtype == kind
    assert same(through_a_file(q, tmp_path, networks.NETWORKS[name]()), q, x)


def test_rounded_positions_of_a_network_that_is_built_by_name(tmp_path):
    model = timm.create_model("eva02_tiny_patch14_224", img_size=28, num_classes=3).half().eval()
    q, x = quantized(model, images(2, 28).half()), images(2, 28)
    assert info_of(q).recipe and same(through_a_file(q, tmp_path), q, x)


def test_the_network_itself_stays_as_it_is():
    model, x, calls = random(Own), images(), []
    model.train()
    model.layers[0].eval()
    model.patches.requires_grad_(False)
    model.classify.weight.grad = torch.ones_like(model.classify.weight)
    model.register_buffer("extra", torch.ones(3))
    model.register_forward_hook(lambda *_: calls.append(1))
    before, modules = copy.deepcopy(model), list(model.modules())
    given = x.clone()
    q = quantized(model, given, "repqvit")
    assert torch.equal(given, x) and list(model.modules()) == modules
    for (name, first), second in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(first, second) and first.requires_grad == second.requires_grad, name
    assert [m.training for m in modules] == [m.training for m in before.modules()]
    assert not any(module.training for module in q.modules()) and torch.equal(q.extra, model.extra)
    assert not any(map(hasattr, modules, ["anatomy"] * len(modules)))
    assert len(model._forward_hooks) == 1 and model.classify.weight.grad is not None
    shared = {p.data_ptr() for p in q.parameters()} & {p.data_ptr() for p in model.parameters()}
    assert not shared


def test_calling_it_twice_gives_the_same_twice():
    model, x = random(Own), images()
    first, second = (quantized(model, x, "aiqvit", seed=3) for _ in range(2))
    assert same(first, second, x)
    assert not same(first, quantized(model, x, "aiqvit", seed=4), x)
    for done in (first, copy.deepcopy(first)):
        with pytest.raises(UserError, match="quantized already"):
            quantized(done, x)


def test_data_in_every_form_is_the_same_data():
    model, x = random(Own), images(6)
    expected = quantized(model, x, images=6)
    labels = torch.arange(6)
    forms = (list(x.split(6)), [(x, labels)], DataLoader(TensorDataset(x, labels), 6), iter([x]),
             x.clone().requires_grad_(), x.double(), [[x, {"boxes": []}]])
    for data in forms:
        assert same(quantized(model, data, images=6), expected, x)
    assert info_of(expected).samples == 6 and info_of(expected).shape == (3, 32, 32)
    assert info_of(quantized(model, x, images=5)).samples == 5


def test_a_fresh_network_of_other_attributes_is_warned_of(tmp_path):
    class Heads(nn.Module):
        def __init__(self, heads):
            super().__init__()
            self.vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=heads)

        def forward(self, x):
            return self.vit(x)

    q = quantized(random(partial(Heads, 3)), images())
    aiqvit.save(q, tmp_path / "q.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(aiqvit.load(tmp_path / "q.safetensors", Heads(3))(images()), q(images()))
    with pytest.warns(UserWarning, match="Heads that was handed over has modules or attributes unlike"):
        aiqvit.load(tmp_path / "q.safetensors", Heads(4))


def test_a_model_of_another_type_is_not_saved(tmp_path):
    q = quantized(random(Own), images()).half()
    with pytest.raises(UserError, match="is float16: a quantized model is stored in float32"):
        aiqvit.save(q, tmp_path / "q.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_others_say_of_a_plain_network():
    for function in (aiqvit.card, aiqvit.coverage):
        with pytest.raises(UserError, match="Own is no quantized model: aiqvit.quantize or aiqvit.load make one"):
            function(Own())


def test_the_ends_of_a_network_that_no_family_knows_are_treated_as_such(tmp_path):
    q = quantized(random(Own), images(), "repqvit", bits="4/4")
    rows = {(row["role"], row["kind"]): row["bits"] for row in scheme_card(q)}
    assert rows["image", "activation"] == 8 and ("head", "activation") in rows and ("patch_embed", "weight") in rows
    aiqvit.save(q, tmp_path / "q.safetensors")
    again = aiqvit.load(tmp_path / "q.safetensors", Own())
    assert aiqvit.card(again) == aiqvit.card(q) and same(q, again, images())
    for rule, expected in (("bits:first_last", 6), ("bits:head", 4)):
        card = scheme_card(quantized(random(Own), images(), bits="4/4", **{rule: 6}))
        weights = {row["role"]: row["bits"] for row in card if row["kind"] == "weight"}
        assert weights["head"] == 6 and weights["patch_embed"] == expected and weights["qkv"] == 4
