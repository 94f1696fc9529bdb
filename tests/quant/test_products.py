"""Models that are not timm's: layers with roles of their own, the weighted sum, what a method skips."""

import copy

import pytest
import torch

from aiqvit.families.opening import quantize_model
from aiqvit.quant.card import format_card, scheme_card, sites
from aiqvit.quant.layers import QuantLinear, QuantWeightedSum
from aiqvit.quant.observers import FocusGrid
from aiqvit.quant.products import WeightedSum
from aiqvit.quant.quantizers import DynamicFocusing, LogSqrt2, Uniform
from aiqvit.quant.quantizers.shift_log import ShiftUniformLog2
from aiqvit.quant.quantizers.twin import Splits, TwinSoftmax
from aiqvit.quant.site import by_role, spec
from aiqvit.quant.surgery import calibrate
from tests.models import clouds, tiny_points, uniform

SCHEME = uniform(post_gelu=spec(Uniform, 4), post_layernorm=spec(Uniform, 4, -1))
KINDS = ("classifier", "segmenter")


@pytest.mark.parametrize("kind", KINDS)
def test_surgery_keeps_the_function_and_leaves_no_layer_out(kind):
    model, x = tiny_points(kind), clouds()
    with torch.no_grad():
        expected = model(x)
        quantized = quantize_model(copy.deepcopy(model), SCHEME)
        torch.testing.assert_close(quantized(x), expected, rtol=1e-4, atol=1e-5)  # BatchNorm is folded
    plain = [name for name, m in quantized.named_modules() if type(m) in (torch.nn.Linear, WeightedSum)]
    assert plain == [] and not any("BatchNorm" in type(m).__name__ for m in quantized.modules())


def test_roles_are_those_that_the_layers_name():
    model = quantize_model(tiny_points("classifier"), SCHEME)
    roles = {name: q.role for name, q in sites(model)}
    assert roles["embed.0.input_quantizer"] == "image" and roles["embed.0.weight_quantizer"] == "patch_embed"
    assert roles["classifier.4.input_quantizer"] == roles["classifier.4.weight_quantizer"] == "head"
    assert roles["classifier.0.input_quantizer"] == roles["blocks.1.query.input_quantizer"] == "other"
    assert roles["blocks.0.sum.left_quantizer"] == "post_softmax" and roles["blocks.0.sum.right_quantizer"] == "value"
    assert isinstance(model.blocks[0].position[0], QuantLinear)
    calibrate(model, lambda m: m(clouds()))
    card = {(row["role"], row["kind"]): row for row in scheme_card(model)}
    assert card["coordinates", "activation"]["quantizer"] == "float"  # coordinates stay in full precision
    assert card["coordinates", "weight"]["bits"] == 4 and card["image", "activation"]["bits"] == 8


def test_the_card_says_what_a_method_skipped():
    text = format_card(scheme_card(quantize_model(tiny_points("classifier"), SCHEME)))
    assert text.endswith("skipped, no such site in this model: activation post_gelu, activation post_layernorm "
                         "(own ranges and their reparameterization)")
    plain = by_role({"default": spec(Uniform, 4, 0)}, {"default": spec(Uniform, 4)})
    model = quantize_model(tiny_points("classifier"), plain)
    assert all(row["sites"] for row in scheme_card(model))


@pytest.mark.parametrize("softmax", (
    lambda: Uniform(4), lambda: LogSqrt2(4), lambda: ShiftUniformLog2(4), lambda: TwinSoftmax(4, None, Splits()),
    lambda: DynamicFocusing(4, observer=FocusGrid(images=2))))
def test_weighted_sum_by_every_softmax_quantizer(softmax):
    torch.manual_seed(0)
    weights, values = (3 * torch.randn(3, 10, 16, 5)).softmax(-2), torch.randn(3, 10, 16, 5)
    product = QuantWeightedSum(softmax(), Uniform(4))
    exact = WeightedSum()(weights, values)
    assert torch.equal(product(weights, values), exact)  # off
    product.left_quantizer.mode = product.right_quantizer.mode = "observe"
    found = product(weights, values)
    left, right = product.left_quantizer, product.right_quantizer
    by_codes = (left.decode(left.encode(weights)) * right.decode(right.encode(values))).sum(2)
    torch.testing.assert_close(found, by_codes)
    assert 0 < (found - exact).norm() < 0.3 * exact.norm()


def test_focusing_interval_is_searched_by_the_error_of_the_sum():
    torch.manual_seed(0)
    weights, values = (2 * torch.randn(4, 20, 16, 6)).softmax(-2), torch.randn(4, 20, 16, 6) + 1
    focus = DynamicFocusing(3, observer=FocusGrid(images=4))
    product = QuantWeightedSum(focus, Uniform(8))
    focus.mode = "observe"
    exact = WeightedSum()(weights, values)
    chosen = (product(weights, values) - exact).norm()
    for b1, b2 in FocusGrid(images=4).ranges(weights.reshape(1, -1), 3):
        focus.set_range(b1, b2)
        assert (product(weights, values) - exact).norm() >= 0.9999 * chosen
