"""AdaLog's quantizer against its formulas, code by code for every base."""

import math

import pytest
import torch
from torch.nn.functional import gelu

from aiqvit.quant.quantizers import AdaptiveLog
from aiqvit.quant.quantizers.adaptive_log import NUMERATORS

SHIFT = 0.16997124


def made(bits: int = 4, numerator: int = 37, scale: float = 1.0, **options) -> AdaptiveLog:
    q = AdaptiveLog(bits, **options)
    q.scale.data.fill_(scale)
    q.numerator.fill_(numerator)
    return q


def maps() -> torch.Tensor:
    return (3 * torch.randn(2, 3, 15, 15, generator=torch.Generator().manual_seed(0))).softmax(-1)


def explicit(code: int, bits: int, numerator: int, last: int) -> float:
    """The value of a code in units of the scale: a mantissa out of the table, a shift."""
    if code == last:
        return 0.0
    whole, rest = divmod(code * numerator, 37)
    most = 2 ** (bits + 1) - 2
    return round(2 ** (-rest / 37) * most) / most / 2**whole


@pytest.mark.parametrize("bits", (2, 3, 4, 6, 8))
def test_every_code_of_every_base_decodes_as_the_table_says(bits):
    codes = torch.arange(2**bits)
    for numerator in NUMERATORS:
        expected = torch.tensor([explicit(c, bits, numerator, 2**bits - 1) for c in range(2**bits)]) * 0.7
        torch.testing.assert_close(made(bits, numerator, 0.7).decode(codes.int()), expected, rtol=1e-6, atol=0)
    assert (NUMERATORS[0], NUMERATORS[-1]) == (10, 137)


@pytest.mark.parametrize("bits", (2, 4))
def test_every_value_gets_the_code_that_is_nearest_in_the_logarithm(bits):
    x = torch.logspace(-12, 0.2, 200, base=2, dtype=torch.float64)
    for numerator in NUMERATORS:
        q = made(bits, numerator, 0.9).double()
        exact = [-math.log2(min(v / 0.9, 1)) * 37 / numerator for v in x.tolist()]
        expected = [min(math.floor(e + 0.5), 2**bits - 1) for e in exact]
        ties = [abs(e % 1 - 0.5) < 1e-6 for e in exact]
        assert all(a == b or tie for a, b, tie in zip(q.encode(x).tolist(), expected, ties, strict=True))


@pytest.mark.parametrize("shifted", (False, True))
@pytest.mark.parametrize("bits", (2, 3, 4, 6, 8))
def test_codes_are_at_most_2b_and_decode_to_the_fake_values(bits, shifted):
    x = gelu(2 * torch.randn(4000, generator=torch.Generator().manual_seed(0))) if shifted else maps()
    q = AdaptiveLog(bits, shifted=shifted)
    q.calibrate(x)
    codes = q.encode(x)
    assert codes.dtype == torch.int32 and codes.min() >= 0 and codes.max() <= 2**bits - 1
    assert torch.equal(q.decode(codes), q.fake(x))
    low = -SHIFT if shifted else 0
    assert q.fake(torch.tensor([low])).item() == pytest.approx(low)  # the last code
    assert q.fake(x).min() >= low - 1e-6


def test_official_levels_have_one_code_more_and_say_so():
    x = torch.cat([torch.zeros(1), torch.logspace(-9, 0, 500, base=2)])
    for official in (False, True):
        q = made(3, official_levels=official)
        assert q.levels == 8 + official and q.encode(x).unique().numel() == q.levels
        assert q.fake(x)[0] == 0 and q.decode(torch.tensor([7])).item() == (2.0**-7 if official else 0)
    assert "9 codes" in q.note


def test_the_base_is_the_one_with_the_least_error():
    x, q = maps(), AdaptiveLog(3)
    q.calibrate(x)
    errors = {n: (made(3, n, x.max().item()).fake(x) - x).square().mean().item() for n in NUMERATORS}
    assert q.numerator.item() == min(errors, key=errors.get) != 37
    values = torch.randn(2, 3, 15, 4, generator=torch.Generator().manual_seed(1))
    q.calibrate(x, lambda a: a @ values)
    errors = {n: ((made(3, n, x.max().item()).fake(x) - x) @ values).square().mean().item() for n in NUMERATORS}
    assert q.numerator.item() == min(errors, key=errors.get)


@pytest.mark.parametrize("shifted", (False, True))
def test_training_values_have_no_table(shifted):
    x = torch.rand(300, generator=torch.Generator().manual_seed(0)) * 1.4
    q = made(3, 29, 1.1, shifted=shifted)
    shift = SHIFT if shifted else 0
    codes = q.encode(x)
    smooth = torch.where(codes == 7, 0.0, 1.1 * 2 ** (-codes * 29 / 37)) - shift
    torch.testing.assert_close(q.fake(x.clone().requires_grad_()).detach(), smooth, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shifted", (False, True))
def test_gradients_equal_finite_differences_of_the_frozen_rounding(shifted):
    """With the residue of rounding frozen, s 2^{-(-log2(x / s) r / q + residue) q / r} is differentiable."""
    generator = torch.Generator().manual_seed(1)
    shift = SHIFT if shifted else 0
    x = torch.rand(500, dtype=torch.float64, generator=generator) * 1.6 - shift
    q = made(3, 29, 1.1, shifted=shifted).double()
    weight = torch.randn(500, dtype=torch.float64, generator=generator)
    code, exact = q.encode(x).double(), -((x + shift) / 1.1).log2() * 37 / 29
    residue, zero, above = code - exact, code == 7, x + shift > 1.1

    def surrogate(x: torch.Tensor, s: float) -> torch.Tensor:
        y = s * 2 ** (-(-((x + shift) / s).log2() * 37 / 29 + residue) * 29 / 37)
        return torch.where(zero, 0.0, torch.where(above, s, y)) - shift

    leaf = x.clone().requires_grad_()
    q.scale.requires_grad_(True)
    (q.fake(leaf) * weight).sum().backward()
    numeric = (surrogate(x + 1e-6, 1.1) - surrogate(x - 1e-6, 1.1)) / 2e-6 * weight
    torch.testing.assert_close(leaf.grad, numeric, rtol=1e-5, atol=1e-7)
    numeric = ((surrogate(x, 1.1 + 1e-6) - surrogate(x, 1.1 - 1e-6)) * weight).sum().item() / 2e-6
    assert q.scale.grad.item() == pytest.approx(numeric, rel=1e-5)
    assert zero.any() and above.any() and (leaf.grad[zero | above] == 0).all()


def test_the_shift_of_gelu_can_as_well_go_into_the_bias_behind():
    generator = torch.Generator().manual_seed(0)
    x, weight = gelu(torch.randn(20, 30, generator=generator)), torch.randn(5, 30, generator=generator)
    q = AdaptiveLog(4, shifted=True)
    q.calibrate(x)
    plain = made(4, int(q.numerator.item()), q.scale.item())  # the same without the shift
    moved = plain.fake(x + SHIFT) @ weight.T - SHIFT * weight.sum(1)
    torch.testing.assert_close(q.fake(x) @ weight.T, moved, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("bits", "numerator"), [(8, 10), (4, 137)])
def test_zeros_have_finite_values_and_no_gradient_where_their_code_is_not_the_last(bits, numerator):
    q = made(bits, numerator)
    q.scale.requires_grad_(True)
    x = torch.tensor([0.0, 1e-30, 0.3], requires_grad=True)
    assert q.encode(x.detach())[0] < q.zero_code
    y = q.fake(x)
    y.sum().backward()
    assert y[:2].abs().max() < 1e-14 and x.grad[:2].tolist() == [0, 0] and x.grad[2] > 0.5
    assert q.scale.grad.isfinite().all()


def test_nan_stays_nan_and_constants_stay_finite():
    assert made().fake(torch.tensor([torch.nan, 0.5])).isnan().tolist() == [True, False]
    for shifted in (False, True):
        for value in (0.0, 0.05, 1.0, -0.2):
            q = AdaptiveLog(3, shifted=shifted)
            q.calibrate(torch.full((4,), value))
            assert q.fake(torch.full((4,), value)).isfinite().all()
