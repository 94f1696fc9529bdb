"""Range search against brute force."""

import numpy as np
import pytest
import torch

from aiqvit.quant.layers import QuantMatMul
from aiqvit.quant.observers import FocusGrid, MinMax, PercentileMSE, Shrink, upper_quantiles
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
    q.observe(x)
    chosen = (q.fake(x) - x).abs().pow(observer.power).mean(1)
    least = torch.full((4,), torch.inf)
    for low, high in observer.ranges(x):
        other = Uniform(3, 0)
        other.set_range(low[:, None], high[:, None])
        least = torch.minimum(least, (other.fake(x) - x).abs().pow(observer.power).mean(1))
    torch.testing.assert_close(chosen, least)


def test_min_max_clips_nothing():
    x = torch.randn(1000)
    q = Uniform(8, observer=MinMax())
    q.observe(x)
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
    for low, high in FocusGrid(steps=12).ranges(a.reshape(1, -1)):
        other = DynamicFocusing(3)
        other.set_range(low, high)
        errors.append(((other.fake(a) - a) @ v).square().mean())
    assert len(errors) > 40 and focus.mode == "on"
    torch.testing.assert_close(chosen, torch.stack(errors).min())
