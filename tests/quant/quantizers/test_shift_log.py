"""I&S-ViT's post-Softmax quantizer against its formula."""

import pytest
import torch

from aiqvit.quant.quantizers.shift_log import SHIFTS, ShiftUniformLog2


def maps() -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.randn(4, 3, 20, 20) * 3).softmax(-1)


@pytest.mark.parametrize("bits", (2, 3, 4, 6, 8))
def test_codes_decode_to_the_fake_values_and_to_powers_of_two(bits):
    x, quantizer = maps(), ShiftUniformLog2(bits)
    quantizer.calibrate(x)
    codes = quantizer.encode(x)
    assert codes.min() >= 0 and codes.max() <= 2**bits - 1
    assert torch.equal(quantizer.decode(codes), quantizer.fake(x))
    exponents = (quantizer.fake(x) + quantizer.shift).log2()
    torch.testing.assert_close(exponents, exponents.round(), atol=1e-3, rtol=0)


def test_values_follow_the_formula():
    x, quantizer = maps(), ShiftUniformLog2(4)
    quantizer.calibrate(x)
    eta = quantizer.shift.item()
    u = -(x + eta).log2()
    step = (u.max() - u.min()) / 15
    explicit = 2 ** torch.round(-(torch.round((u - u.min()) / step) * step + u.min())) - eta
    torch.testing.assert_close(quantizer.fake(x), explicit, atol=1e-6, rtol=1e-5)


def test_shift_is_the_one_with_the_least_error():
    x, quantizer = maps(), ShiftUniformLog2(3)
    quantizer.calibrate(x)
    errors = {}
    for shift in SHIFTS:
        quantizer._set(x, shift, 8)
        errors[shift] = (quantizer.fake(x) - x).square().mean().item()
    quantizer.calibrate(x)
    assert quantizer.shift.item() == pytest.approx(min(errors, key=errors.get))


def test_official_levels_have_one_code_more_and_say_so():
    x, quantizer = maps(), ShiftUniformLog2(3, official_levels=True)
    quantizer.calibrate(x)
    assert quantizer.encode(x).max() == 8 and "9 codes" in quantizer.note


def test_gradient_passes_where_the_code_is_in_range():
    x, quantizer = maps(), ShiftUniformLog2(3)
    quantizer.calibrate(x)
    wide = torch.cat([x, torch.full_like(x[:1], 50.0)]).requires_grad_()
    quantizer.fake(wide).sum().backward()
    assert (wide.grad[:-1] == 1).all() and (wide.grad[-1] == 0).all()


def test_constant_maps_give_no_nan():
    for value in (0.0, 0.05, 1.0):
        quantizer, x = ShiftUniformLog2(3), torch.full((1, 1, 4, 4), value)
        quantizer.calibrate(x)
        assert quantizer.fake(x).isfinite().all()
