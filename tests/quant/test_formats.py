"""Formats against brute force, torch's own fake quantizer and finite differences."""

import pytest
import torch

from aiqvit.quant import formats
from aiqvit.quant.quantizers import DynamicFocusing, Log2, LogSqrt2, Uniform

BITS = (2, 3, 4, 6, 8)


def made(kind: str, bits: int, axis: int | None = None):
    build = {
        "asymmetric": lambda: Uniform(bits, axis),
        "symmetric": lambda: Uniform(bits, axis, symmetric=True),
        "log2": lambda: Log2(bits, axis),
        "logsqrt2": lambda: LogSqrt2(bits, axis),
        "affine": lambda: DynamicFocusing(bits),
        "intzp": lambda: DynamicFocusing(bits, decoding="intzp"),
        "zero_low": lambda: DynamicFocusing(bits, decoding="zero_low"),
    }
    return build[kind]()


KINDS = ("asymmetric", "symmetric", "log2", "logsqrt2", "affine", "intzp", "zero_low")
UNIT = ("log2", "logsqrt2", "affine", "intzp", "zero_low")  # formats of values in [0, 1]


def sample(kind: str, shape=(6, 5, 40)) -> torch.Tensor:
    torch.manual_seed(0)
    return (3 * torch.randn(shape)).softmax(-1) if kind in UNIT else torch.randn(shape) * 2 + 0.5


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_integers_in_range_and_decode_to_the_fake_quantizer(kind, bits):
    x, q = sample(kind), made(kind, bits)
    q.calibrate(x)
    codes = q.encode(x)
    assert codes.dtype == torch.int32
    assert codes.min() >= 0 and codes.max() <= 2**bits - 1
    assert codes.unique().numel() <= 2**bits
    assert torch.equal(q.decode(codes), q.fake(x))
    assert torch.equal(q.fake(x.clone().requires_grad_()).detach(), q.fake(x))


@pytest.mark.parametrize("bits", BITS)
def test_uniform_equals_torch_fake_quantize(bits):
    x, q = sample("asymmetric"), Uniform(bits)
    q.calibrate(x)
    expected = torch.fake_quantize_per_tensor_affine(x, q.scale.item(), int(q.zero), 0, 2**bits - 1)
    torch.testing.assert_close(q.fake(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("axis, groups", [(None, 1), (0, 6), (-1, 40), (-2, 5), (1, 5)])
def test_each_group_is_quantized_as_if_alone(axis, groups):
    x, q = sample("asymmetric"), Uniform(4, axis)
    q.calibrate(x)
    assert q.scale.numel() == groups
    if axis is not None:
        for i in range(groups):
            alone, part = Uniform(4), x.select(axis, i)
            alone.calibrate(part)
            torch.testing.assert_close(q.fake(x).select(axis, i), alone.fake(part))


@pytest.mark.parametrize("kind", ("asymmetric", "symmetric", "logsqrt2", "log2"))
@pytest.mark.parametrize("value", (0.0, 0.7, -0.7))
def test_constant_channels_stay_finite(kind, value):
    x = torch.randn(4, 10, 3)
    x[..., 1] = value
    x[..., 2] = 0
    q = made(kind, 4, -1)
    q.calibrate(x)
    y = q.fake(x)
    assert y.isfinite().all()
    if kind == "asymmetric":
        torch.testing.assert_close(y[..., 1], x[..., 1], rtol=1e-5, atol=1e-6)
        assert (y[..., 2] == 0).all()


def test_constant_channel_far_from_zero_is_exact():
    x = torch.full((5, 2), 3.0)
    q = Uniform(3, -1, include_zero=False)
    q.calibrate(x)
    torch.testing.assert_close(q.fake(x), x, rtol=1e-6, atol=0)


def test_symmetric_range_clips_neither_end():
    x = torch.tensor([-1.0, -0.3, 0.2, 1.0])
    q = Uniform(4, symmetric=True)
    q.set_range(x.min().reshape(1), x.max().reshape(1))
    assert q.zero.item() == 8
    assert (q.fake(x) - x).abs().max() <= q.scale.item() / 2 + 1e-6


def test_eq15_branches():
    q = DynamicFocusing(3)
    q.set_range(torch.tensor([0.1]), torch.tensor([0.8]))
    x = torch.tensor([0.0, 0.0999, 0.1, 0.45, 0.8, 0.9])
    assert q.encode(x).tolist() == [0, 0, 0, round((0.45 - 0.1) / 0.1 + 1e-9), 7, 7]


def test_logsqrt2_last_code_means_zero_and_official_levels_adds_one():
    x = torch.cat([torch.zeros(1), torch.logspace(-6, 0, 2000, base=2.0).flip(0), torch.logspace(-30, 0, 500, base=2)])
    for official in (False, True):
        q = LogSqrt2(3, official_levels=official)
        q.set_range(torch.zeros(1), torch.ones(1))
        assert q.levels == (9 if official else 8)
        assert q.encode(x).unique().numel() == q.levels
        assert q.fake(x)[0] == 0 and q.fake(x).max() == 1
    assert "9 codes" in q.note


@pytest.mark.parametrize("kind", ("asymmetric", "symmetric"))
def test_scale_gradient_equals_finite_difference_of_the_frozen_rounding(kind):
    """With the rounding residue frozen, y = s (clip(x/s + residue + z) - z) is differentiable."""
    torch.manual_seed(1)
    x = torch.randn(400, dtype=torch.float64) * 2
    q = made(kind, 3).double()
    q.set_range(torch.tensor([-1.5]).double(), torch.tensor([2.0]).double())
    q.scale.requires_grad_(True)
    weight = torch.randn_like(x)
    (q.fake(x) * weight).sum().backward()
    s, z, last = q.scale.item(), q.zero, 7
    residue = torch.round(x / s) - x / s

    def surrogate(scale: float) -> float:
        inside = (torch.round(x / s) + z >= 0) & (torch.round(x / s) + z <= last)
        codes = torch.where(inside, x / scale + residue + z, (torch.round(x / s) + z).clamp(0, last))
        return float(((codes - z) * scale * weight).sum())

    numeric = (surrogate(s + 1e-6) - surrogate(s - 1e-6)) / 2e-6
    assert q.scale.grad.item() == pytest.approx(numeric, rel=1e-5)


@pytest.mark.parametrize("decoding", ("affine", "intzp"))
def test_focus_gradients_equal_finite_differences_of_the_frozen_rounding(decoding):
    torch.manual_seed(2)
    x = torch.rand(500, dtype=torch.float64)
    q = DynamicFocusing(3, decoding=decoding).double()
    low, high = 0.2, 0.7
    if decoding == "intzp":  # bounds on the integer grid, so that both decodings clip at the same values
        low, high = 0.2, 0.2 + 7 * 0.1
    q.set_range(torch.tensor([low]).double(), torch.tensor([high]).double())
    q.b1.requires_grad_(True), q.b2.requires_grad_(True)
    weight = torch.randn_like(x)
    (q.fake(x) * weight).sum().backward()
    step = (high - low) / 7
    v = ((x - low) / step).clamp(0, 7)
    residue = torch.round(v) - v
    inside = (x >= low) & (x <= high)

    def surrogate(b1: float, b2: float) -> float:
        s = (b2 - b1) / 7
        codes = torch.where(inside, (x - b1) / s + residue, v)
        return float(((b1 + s * codes) * weight).sum())

    eps = 1e-6
    assert q.b1.grad.item() == pytest.approx((surrogate(low + eps, high) - surrogate(low - eps, high)) / 2e-6, rel=1e-4)
    assert q.b2.grad.item() == pytest.approx((surrogate(low, high + eps) - surrogate(low, high - eps)) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_input_gradient_is_one_inside_and_zero_outside(kind):
    x = sample(kind).requires_grad_()
    q = made(kind, 3)
    low, high = (0.01, 0.3) if kind in UNIT else (-1.0, 1.0)
    q.set_range(torch.tensor([low]), torch.tensor([high]))
    q.fake(x).sum().backward()
    assert set(x.grad.unique().tolist()) <= {0.0, 1.0}
    assert x.grad.mean() > 0.01
    if kind == "asymmetric":  # elements in the first and the last code keep their gradient
        codes = formats.uniform_encode(x.detach(), q.scale, q.zero, 3)
        near = (x.detach().abs() < 1.0) & ((codes == 0) | (codes == 7))
        assert near.any() and (x.grad[near] == 1).all()


def test_zero_low_reads_code_zero_as_zero():
    q = DynamicFocusing(4, decoding="zero_low")
    q.set_range(torch.tensor([0.002]), torch.tensor([0.5]))
    assert q.fake(torch.tensor([0.0, 0.001, 0.002])).tolist() == [0, 0, 0]


def test_constrain_keeps_bounds_and_scales_in_their_domain():
    q, u = DynamicFocusing(4), Uniform(4)
    q.b1.data, q.b2.data, u.scale.data = torch.tensor([0.9]), torch.tensor([-3.0]), torch.tensor([-1.0])
    q.constrain(), u.constrain()
    assert 0 <= q.b1.item() < q.b2.item() <= 1 and u.scale.item() > 0
