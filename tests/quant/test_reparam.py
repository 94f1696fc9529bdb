"""Reparameterization is an identity in full precision and turns channel quantizers into equal tensor quantizers."""

import copy

import pytest
import torch

from aiqvit.quant.card import sites
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.reparam import reparameterize
from aiqvit.quant.surgery import norm_pairs, observe, quantize_model, set_mode
from tests.models import FAMILIES, images, tiny

SCHEME = {"weight": lambda: Uniform(4, 0), "activation": lambda: Uniform(4),
          "post_layernorm": lambda: Uniform(4, -1, include_zero=False)}


def observed(family: str, constant: bool = False):
    model = tiny(family).double()
    if constant:
        model.get_submodule("layers.0.blocks.0.norm1" if family == "swin" else "blocks.0.norm1").weight.data[3] = 0
    original = copy.deepcopy(model)
    model = quantize_model(model, SCHEME)
    observe(model, lambda m: m(images().double()))
    return model, original


@pytest.mark.parametrize("constant", (False, True))
@pytest.mark.parametrize("family", FAMILIES)
def test_full_precision_output_is_unchanged(family, constant):
    model, original = observed(family, constant)
    reparameterize(model)
    set_mode(model, "off")
    with torch.no_grad():
        expected = original(images().double())
        assert ((model(images().double()) - expected).norm() / expected.norm()) < 1e-10


@pytest.mark.parametrize("family", FAMILIES)
def test_tensor_quantizer_equals_the_channel_quantizer(family):
    model, _ = observed(family)
    before = copy.deepcopy(model)
    reparameterize(model)
    pairs = list(zip(norm_pairs(before), norm_pairs(model), strict=True))
    assert len(pairs) == {"vit": 4, "deit": 4, "swin": 9}[family]
    for (old_norm, old), (norm, new) in pairs:
        assert new.input_quantizer.scale.numel() == 1
        x = torch.randn(9, old.in_features, dtype=torch.float64)
        channel, tensor = old.input_quantizer, new.input_quantizer
        assert torch.equal(channel.encode(old_norm(x)), tensor.encode(norm(x)))
        old_out = torch.nn.functional.linear(channel.fake(old_norm(x)), old.weight, old.bias)
        new_out = torch.nn.functional.linear(tensor.fake(norm(x)), new.weight, new.bias)
        torch.testing.assert_close(old_out, new_out)


def test_all_activations_are_per_tensor_afterwards():
    model, _ = observed("swin", constant=True)
    reparameterize(model)
    for name, q in sites(model):
        assert q.scale.isfinite().all() and q.zero.isfinite().all()
        if not name.endswith("weight_quantizer"):
            assert q.granularity == "tensor"
