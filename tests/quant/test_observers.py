"""Range search against brute force."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from aiqvit.quant.layers import QuantConv2d, QuantLinear, QuantMatMul
from aiqvit.quant.observers import (
    FocusGrid,
    MinMax,
    PercentileMSE,
    RangeAndZero,
    Shrink,
    thinned,
    upper_quantiles,
)
from aiqvit.quant.quantizers import DynamicFocusing, Uniform


@pytest.mark.parametrize("shape", [(1, 300_000), (1, 300), (7, 1000), (3, 2), (1, 70_001)])
def test_upper_quantiles_equal_numpy(shape):
    torch.manual_seed(0)
    x = torch.randn(shape) ** 3
    fractions = (0.97, 0.999, 0.9999, 0.99999, 1.0)
    expected = np.quantile(x.double().numpy(), fractions, axis=1)
    np.testing.assert_allclose(upper_quantiles(x, fractions).double().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_upper_quantiles_when_the_sample_misleads():
    x = torch.zeros(1, 200_000)
    x[:, ::64] = 5.0  # every sampled element is large
    x[:, 1::64] = torch.linspace(0, 1, x[:, 1::64].shape[1])
    expected = np.quantile(x.numpy(), (0.97, 0.99999), axis=1)
    np.testing.assert_allclose(upper_quantiles(x, (0.97, 0.99999)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("observer", [PercentileMSE(), PercentileMSE((0.9, 0.99, 0.999)), Shrink(), MinMax()])
def test_the_chosen_range_has_the_least_error_of_all_candidates(observer):
    torch.manual_seed(0)
    x = torch.randn(4, 500) ** 3
    q = Uniform(3, 0, observer)
    q.calibrate(x)
    chosen = (q.fake(x) - x).abs().pow(observer.power).mean(1)
    least = torch.full((4,), torch.inf)
    for low, high in observer.ranges(x, 3):
        other = Uniform(3, 0)
        other.set_range(low[:, None], high[:, None])
        least = torch.minimum(least, (other.fake(x) - x).abs().pow(observer.power).mean(1))
    torch.testing.assert_close(chosen, least)


def test_by_token_no_token_counts_more_than_another():
    torch.manual_seed(0)
    x = torch.randn(2, 50, 16)
    x[0, 0, 0] = 400.0  # least squares must keep it; for the other 99 tokens everything would be 0
    plain, by_token = (Uniform(4, observer=PercentileMSE((0.99, 1.0), by_token=choice)) for choice in (False, True))
    for q in (plain, by_token):
        q.calibrate(x)
    errors = {q: ((q.fake(x) - x).norm(dim=-1) / x.norm(dim=-1)).square().mean() for q in (plain, by_token)}
    assert plain.scale > 20 and by_token.scale < 1
    assert errors[by_token] < 0.1 < 0.9 < errors[plain]


@pytest.mark.parametrize("search", [Shrink(elements=300), RangeAndZero(3, 20, elements=300)])
def test_by_token_on_a_part_of_the_values_the_least_error_wins(search):
    plain, search = search, replace(search, by_token=True)
    torch.manual_seed(0)
    x = torch.randn(2, 50, 16) * torch.rand(2, 50, 1) ** 3 * 30  # tokens of very different sizes

    def error(q):
        off = (q.fake(x) - x) / x.square().mean(-1, keepdim=True).sqrt()
        return thinned(off, 300).abs().pow(search.power).mean().item()

    chosen, errors = Uniform(3, observer=search), []
    chosen.calibrate(x)
    for low, high in search.ranges(thinned(x, 300), 3):
        other = Uniform(3)
        other.set_range(low, high)
        errors.append(error(other))
    assert error(chosen) == pytest.approx(min(errors), rel=1e-5)
    other = Uniform(3, observer=plain)
    other.calibrate(x)
    assert error(other) > error(chosen)


def test_in_front_of_a_convolution_a_token_is_a_pixel():
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 4, 1)
    search = PercentileMSE((0.98, 1.0), by_token=True)
    layer = QuantConv2d(conv, Uniform(4, observer=search), Uniform(4, 0))
    x = torch.randn(2, 50, 16)
    x[0, :3, 0] = 400.0
    tokens = Uniform(4, observer=search)
    tokens.calibrate(x)
    layer.input_quantizer.calibrate(x.view(2, 10, 5, 16).permute(0, 3, 1, 2))
    assert layer.input_quantizer.scale == tokens.scale


def test_min_max_clips_nothing():
    x = torch.randn(1000)
    q = Uniform(8, observer=MinMax())
    q.calibrate(x)
    assert (q.fake(x) - x).abs().max() <= q.scale.item() * 0.51


def test_focus_grid_minimises_the_error_of_the_product():
    torch.manual_seed(0)
    a, v = (2 * torch.randn(4, 2, 12, 12)).softmax(-1), torch.randn(4, 2, 12, 6)
    focus, right = DynamicFocusing(3, observer=FocusGrid(images=4, steps=12)), Uniform(8)
    product = QuantMatMul(focus, right)
    focus.mode = "observe"
    product(a, v)
    chosen = ((focus.fake(a) - a) @ v).square().mean()
    errors = []
    for low, high in FocusGrid(steps=12).ranges(a.reshape(1, -1), 3):
        other = DynamicFocusing(3)
        other.set_range(low, high)
        errors.append(((other.fake(a) - a) @ v).square().mean())
    assert len(errors) > 40 and focus.mode == "on"
    torch.testing.assert_close(chosen, torch.stack(errors).min())


@pytest.mark.parametrize("bits", (2, 3))
def test_qdrops_search_tries_every_width_with_every_zero_point(bits):
    torch.manual_seed(0)
    x, last = torch.randn(1, 500), 2**bits - 1
    quantizer = Uniform(bits, observer=RangeAndZero(steps=20))
    quantizer.calibrate(x)
    errors = {}
    for i in range(1, 21):
        scale = (x.max() - x.min()) * i / 20 / last
        for zero in range(last + 1):
            y = ((x / scale).round() + zero).clamp(0, last).sub(zero) * scale
            errors[scale.item(), zero] = (y - x).abs().pow(2.4).mean().item()
    scale, zero = min(errors, key=errors.get)
    assert quantizer.scale.item() == pytest.approx(scale, rel=1e-5) and quantizer.zero.item() == zero


def test_qdrops_search_of_one_sided_values_keeps_the_zero_point():
    x = torch.rand(1, 500)
    found = list(RangeAndZero(steps=10).ranges(x, 3))
    assert len(found) == 10 and all(0 <= low <= high for low, high in found)


def test_thinning_sees_every_channel():
    for channels in (24, 64, 192, 197 * 3, 1280, 1155):
        x = torch.arange(channels).float().expand(40, 50, channels)
        assert thinned(x, 20_000).unique().numel() == channels
    assert thinned(torch.rand(3, 3), 100).shape == (1, 9)


def test_weight_ranges_by_the_output_weigh_columns_by_their_inputs():
    torch.manual_seed(0)
    search = PercentileMSE((0.8, 0.9, 1.0), by_output=True)
    layer = QuantLinear(torch.nn.Linear(8, 4), Uniform(8), Uniform(3, 0, search))
    x = torch.randn(64, 8) * torch.tensor([100.0] + [0.1] * 7)
    layer.input_quantizer.calibrate(x)
    layer.weight_quantizer.mode = "observe"
    with torch.no_grad():
        layer(x)
    power, weight, chosen = x.square().mean(0), layer.weight, layer.weight_quantizer
    error = ((chosen.fake(weight) - weight).square() * power).sum(1)
    for fraction in (0.8, 0.9, 1.0):
        other = Uniform(3, 0, PercentileMSE((fraction,)))
        other.calibrate(weight)
        assert (error <= ((other.fake(weight) - weight).square() * power).sum(1) + 1e-6).all()
    plain = Uniform(3, 0, PercentileMSE((0.8, 0.9, 1.0)))
    plain.calibrate(weight)
    assert not torch.equal(plain.scale, chosen.scale)


def test_the_first_maps_of_a_window_attention_are_those_of_whole_images():
    torch.manual_seed(0)
    windows = (torch.rand(24, 1, 1, 1) * 8 * torch.randn(24, 2, 9, 9)).softmax(-1)  # six images of four windows
    focus = DynamicFocusing(3, observer=FocusGrid(images=2, by_output=False))
    focus.images = 6
    focus.calibrate(windows)
    by_hand = DynamicFocusing(3, observer=FocusGrid(images=8, by_output=False))
    by_hand.calibrate(windows[:8])  # two images' windows
    assert torch.equal(focus.b1, by_hand.b1) and torch.equal(focus.b2, by_hand.b2)
    few = DynamicFocusing(3, observer=FocusGrid(images=2, by_output=False))
    few.calibrate(windows)
    assert not torch.equal(few.b2, focus.b2)  # two rows, taken for two images
