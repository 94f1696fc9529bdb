"""Reparameterization is an identity in full precision and turns channel quantizers into equal tensor quantizers."""

import copy

import pytest
import torch

from aiqvit.families.opening import quantize_model
from aiqvit.quant.anatomy import norm_readers
from aiqvit.quant.card import sites
from aiqvit.quant.observers import PercentileMSE
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.site import by_role, spec
from aiqvit.quant.surgery import calibrate, set_mode
from aiqvit.transforms.reparam import reparameterize
from tests.models import FAMILIES, channelwise, images, tiny, uniform

SCHEME = uniform(post_layernorm=channelwise())


def norms_and_layers(model):
    """Every LayerNorm whose ranges can be folded, with the one layer behind it."""
    found = [(norm, layers) for norm, layers in norm_readers(model) if not norm.startswith("norm")]
    return [(model.get_submodule(norm), model.get_submodule(layer)) for norm, (layer,) in found]


def observed(family: str, constant: bool = False):
    model = tiny(family).double()
    if constant:
        model.get_submodule("layers.0.blocks.0.norm1" if family == "swin" else "blocks.0.norm1").weight.data[3] = 0
    original = copy.deepcopy(model)
    model = quantize_model(model, SCHEME)
    calibrate(model, lambda m: m(images().double()))
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
    pairs = list(zip(norms_and_layers(before), norms_and_layers(model), strict=True))
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
    for _, q in sites(model):
        assert q.scale.isfinite().all() and q.zero.isfinite().all()
        if q.site.operand == "activation":
            assert q.granularity == "tensor"


def test_weights_are_calibrated_again_by_the_criterion_that_they_had():
    """By the layer's output: inputs, and so their sizes, are those behind the reparameterized norm."""
    model = tiny("vit")
    scheme = by_role({"default": spec(Uniform, 3, 0, PercentileMSE((0.8, 0.9, 1.0), by_output=True))},
                     {"default": spec(Uniform, 8), "post_layernorm": channelwise(8)})
    model = quantize_model(model, scheme)
    calibrate(model, lambda m: m(images(8)))
    layer, seen = model.blocks[0].attn.qkv, []
    reparameterize(model)
    layer.input_quantizer.register_forward_hook(lambda _, args, y: seen.append(y.flatten(0, -2)))
    with torch.no_grad():
        model(images(8))
    power = seen[0].square().mean(0)
    torch.testing.assert_close(layer.input_power, power, rtol=0.02, atol=0.02)
    chosen, errors = layer.weight_quantizer, []
    for low, high in chosen.observer.ranges(layer.weight, 3):
        other = Uniform(3, 0)
        other.set_range(low[:, None], high[:, None])
        errors.append(((other.fake(layer.weight) - layer.weight).square() * layer.input_power).sum(1))
    found = ((chosen.fake(layer.weight) - layer.weight).square() * layer.input_power).sum(1)
    torch.testing.assert_close(found, torch.stack(errors).amin(0))


def test_a_norm_that_is_all_zero_gives_finite_ranges():
    model = tiny("vit")
    for value in (model.blocks[0].norm1.weight, model.blocks[0].norm1.bias):
        value.data.zero_()
    model = quantize_model(model, SCHEME)
    calibrate(model, lambda m: m(images()))
    expected = model(images())
    reparameterize(model)
    assert all(q.scale.isfinite().all() and q.zero.isfinite().all() for _, q in sites(model))
    assert expected.isfinite().all() and model(images()).isfinite().all()
