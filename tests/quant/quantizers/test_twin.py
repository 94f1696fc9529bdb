"""PTQ4ViT's twin quantizers against the formulas."""

import pytest
import torch

from aiqvit.quant.observers import MinMax
from aiqvit.quant.quantizers.twin import GELU_MINIMUM, TwinGelu, TwinSoftmax


def softmax_map() -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.randn(4, 3, 20, 20) * 3).softmax(-1)


def gelu_values() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.nn.functional.gelu(torch.randn(4, 20, 30) * 2)


@pytest.mark.parametrize("bits", (2, 3, 4, 6, 8))
@pytest.mark.parametrize("official", (False, True))
def test_softmax_codes_are_in_range_and_decode_to_the_fake_values(bits, official):
    x, quantizer = softmax_map(), TwinSoftmax(bits, official_sum=official)
    quantizer.calibrate(x)
    codes = quantizer.encode(x)
    assert codes.min() >= 0 and codes.max() < 2**bits and codes.unique().numel() <= 2**bits
    assert torch.equal(quantizer.decode(codes), quantizer.fake(x))


@pytest.mark.parametrize("bits", (3, 4, 6))
def test_softmax_values_follow_the_formula(bits):
    x, quantizer, t, last = softmax_map(), TwinSoftmax(bits), 2.0**-4, 2 ** (bits - 1) - 1
    quantizer.set_range(torch.zeros(1), torch.tensor([t]))
    for value, given in zip(x.flatten()[:500].tolist(), quantizer.fake(x).flatten()[:500].tolist(), strict=True):
        below, above = min(round(value * last / t), last) * t / last, max(round(value * last) / last, t)
        expected = below if value < t else above
        assert given == pytest.approx(expected, abs=1e-6)


def test_official_sum_is_the_sum_of_both_parts():
    x, quantizer, t, last = softmax_map(), TwinSoftmax(4, official_sum=True), 2.0**-3, 7
    quantizer.set_range(torch.zeros(1), torch.tensor([t]))
    parts = (x.clamp(0, t) * last / t).round() * t / last + (x.clamp(t, 1) * last).round() / last
    torch.testing.assert_close(quantizer.fake(x), parts)


def test_the_border_with_the_least_error_is_chosen():
    x, quantizer = softmax_map(), TwinSoftmax(3)
    errors = {}
    for i in range(20):
        quantizer.set_range(torch.zeros(1), torch.tensor([2.0**-i]))
        errors[2.0**-i] = (quantizer.fake(x) - x).square().mean().item()
    quantizer.calibrate(x)
    assert quantizer.high.item() == min(errors, key=errors.get)


@pytest.mark.parametrize("bits", (2, 3, 4, 6, 8))
def test_gelu_codes_are_in_range_and_decode_to_the_fake_values(bits):
    x, quantizer = gelu_values(), TwinGelu(bits, None, MinMax())
    quantizer.calibrate(x)
    codes = quantizer.encode(x)
    assert codes.min() >= 0 and codes.max() < 2**bits
    assert torch.equal(quantizer.decode(codes), quantizer.fake(x))
    negative, half = x[x < 0], 2 ** (bits - 1)
    step = GELU_MINIMUM / half
    expected = (negative / step).round().clamp(-half, 0) * step
    torch.testing.assert_close(quantizer.fake(x)[x < 0], expected)
    assert quantizer.encode(torch.zeros(1)).item() == 0


def test_gelu_positive_half_is_symmetric_uniform():
    x, quantizer = gelu_values(), TwinGelu(4, None, MinMax())
    quantizer.set_range(torch.tensor([-1.0]), torch.tensor([3.0]))
    step = 3.0 / 7.5
    expected = (x[x >= 0] / step).round().clamp(0, 7) * step
    torch.testing.assert_close(quantizer.fake(x)[x >= 0], expected)


@pytest.mark.parametrize("quantizer", (TwinSoftmax(3), TwinGelu(3, None, MinMax())))
def test_constant_tensors_give_no_nan_and_gradients_pass_inside(quantizer):
    for value in (0.0, 0.5):
        x = torch.full((2, 2, 3, 3), value)
        quantizer.calibrate(x)
        assert quantizer.fake(x).isfinite().all()
    quantizer.set_range(torch.zeros(1), torch.full((1,), 0.5))
    x = torch.tensor([0.1, 0.4, 5.0, -3.0], requires_grad=True)
    quantizer.fake(x).sum().backward()
    assert x.grad.tolist() == [1, 1, 0, 0]
