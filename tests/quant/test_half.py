"""Products in bfloat16: operands and products are rounded to it, nothing else is, and it ends when it should."""

import pytest
import torch
from torch import nn

from aiqvit.families.opening import quantize_model
from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantConv2d, QuantLinear, QuantMatMul, QuantWeightedSum, half_products
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.surgery import calibrate
from tests.models import FAMILIES, images, tiny, uniform


def quantizer(x: torch.Tensor, axis: int | None = None) -> Uniform:
    made = Uniform(4, axis)
    made.calibrate(x.detach())
    made.mode = "on"
    return made


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().float()


def test_a_linear_layer_rounds_both_operands_and_the_product_and_adds_the_bias_in_float32():
    torch.manual_seed(0)
    x, source = torch.randn(2, 5, 8), nn.Linear(8, 6)
    layer = QuantLinear(source, quantizer(x), quantizer(source.weight, 0))
    with torch.no_grad(), half_products(layer):
        y = layer(x)
        operands = rounded(layer.input_quantizer(x)), rounded(layer.quantized_weight())
        expected = rounded(operands[0] @ operands[1].T) + source.bias
    assert y.dtype == torch.float32 and not torch.equal(y, layer(x))
    torch.testing.assert_close(y, expected, rtol=2**-7, atol=1e-6)


def test_gradients_follow_within_the_precision_of_bfloat16():
    torch.manual_seed(0)
    source, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    layer = QuantConv2d(source, quantizer(x), quantizer(source.weight, 0))
    found = []
    for on in (False, True):
        for p in layer.parameters():
            p.requires_grad_(True)
        with half_products(layer, on):
            found.append(torch.autograd.grad(layer(x).square().mean(), [layer.weight, layer.bias]))
    for exact, half in zip(*found, strict=True):
        assert half.dtype == torch.float32 and not torch.equal(exact, half)
        torch.testing.assert_close(half, exact, rtol=0.02, atol=0.02 * exact.abs().max().item())


def test_matrix_products_are_rounded_and_weighted_sums_are_not():
    torch.manual_seed(0)
    a, b = torch.rand(1, 2, 5, 5), torch.randn(1, 2, 5, 5)
    for cls, changes in ((QuantMatMul, True), (QuantWeightedSum, False)):
        product = cls(quantizer(a), quantizer(b))
        with half_products(product):
            assert torch.equal(product(a, b), product.multiply(product.left_quantizer(a), product.right_quantizer(b))
                               ) is not changes


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_nearly_the_same_and_goes_back_to_float32(family):
    model = quantize_model(tiny(family), uniform(8, 8))
    calibrate(model, lambda m: m(images()))
    with torch.no_grad():
        exact = model(images())
        with half_products(model):
            half = model(images())
        assert torch.equal(model(images()), exact)
    assert half.dtype == torch.float32 and not torch.equal(half, exact)
    assert (half - exact).norm() < 0.1 * exact.norm()
    assert all(q.scale.dtype == torch.float32 for _, q in sites(model))


def test_it_ends_when_training_fails():
    layer = QuantLinear(nn.Linear(2, 2), quantizer(torch.randn(2)), quantizer(torch.randn(2)))
    with pytest.raises(ZeroDivisionError), half_products(layer):
        raise ZeroDivisionError
    assert not layer.half
