"""Surgery: outputs unchanged until quantizers are on, every site labelled, codes within 2^b."""

import copy

import pytest
import torch
from torch import nn

from aiqvit.families.opening import quantize_model
from aiqvit.quant.card import format_card, scheme_card, sites
from aiqvit.quant.layers import QuantConv2d, QuantLinear, QuantMatMul
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.surgery import calibrate, set_mode
from tests.models import FAMILIES, images, tiny, uniform

SCHEME = uniform()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("family", FAMILIES)
def test_output_is_unchanged_before_quantization_is_switched_on(family):
    model = tiny(family)
    with torch.no_grad():
        expected = model(images())
        assert relative(quantize_model(copy.deepcopy(model), SCHEME)(images()), expected) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_conv_and_product_is_quantized(family):
    model = quantize_model(tiny(family), SCHEME)
    for module in model.modules():
        assert type(module) not in (nn.Linear, nn.Conv2d)
    roles = {(row["role"], row["kind"]): row["sites"] for row in scheme_card(model)}
    blocks = {"vit": 2, "deit": 2, "swin": 4}[family]
    for role in ("query", "key", "value", "post_softmax", "proj_in", "post_gelu"):
        assert roles[role, "activation"] == blocks
    assert roles["post_layernorm", "activation"] == 2 * blocks + (family == "swin")
    assert roles["head", "weight"] == (2 if family == "deit" else 1)
    assert roles["image", "activation"] == roles["patch_embed", "weight"] == 1
    assert not any(role == "other" for role, _ in roles)


@pytest.mark.parametrize("family", FAMILIES)
def test_observe_sets_every_range_and_quantization_changes_the_output(family):
    model = tiny(family)
    with torch.no_grad():
        expected = model(images())
        quantized = quantize_model(copy.deepcopy(model), SCHEME)
        calibrate(quantized, lambda m: m(images()))
        assert all(q.mode == "on" for _, q in sites(quantized))
        assert 1e-3 < relative(quantized(images()), expected) < 2
        set_mode(quantized, "off")
        assert relative(quantized(images()), expected) < 1e-5


def test_eight_bits_are_nearly_lossless():
    model = tiny("vit")
    with torch.no_grad():
        expected = model(images())
        quantized = quantize_model(model, uniform(8, 8))
        calibrate(quantized, lambda m: m(images()))
        assert relative(quantized(images()), expected) < 0.05


def test_card_shows_what_is_off_and_groups_roles():
    model = quantize_model(tiny("vit"), SCHEME)
    assert {row["quantizer"] for row in scheme_card(model)} == {"float"}
    calibrate(model, lambda m: m(images()))
    text = format_card(scheme_card(model))
    assert "weight      4 bit uniform per channel: patch_embed x1, qkv x2" in text
    assert "activation  8 bit uniform per tensor: image x1" in text
    assert format_card([]) == "  nothing is quantized"


def test_layers_equal_their_sources_and_the_explicit_product():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
    linear = nn.Linear(5, 7)
    image, x = torch.randn(2, 3, 9, 9), torch.randn(2, 4, 5)
    assert torch.equal(QuantConv2d(conv, Uniform(4), Uniform(4, 0))(image), conv(image))
    quantized = QuantLinear(linear, Uniform(4), Uniform(4, 0))
    assert torch.equal(quantized(x), linear(x))
    quantized.input_quantizer.mode = quantized.weight_quantizer.mode = "observe"
    y = quantized(x)
    inputs, weights = quantized.input_quantizer, quantized.weight_quantizer
    by_codes = inputs.decode(inputs.encode(x)) @ weights.decode(weights.encode(linear.weight)).T + linear.bias
    torch.testing.assert_close(y, by_codes)
    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 5)
    torch.testing.assert_close(QuantMatMul(Uniform(4), Uniform(4), transposed=True)(a, b), a @ b.transpose(-2, -1))
