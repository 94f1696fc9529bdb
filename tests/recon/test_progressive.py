"""The progressive search against trying everything, and its first candidates against their definition."""

import pytest
import torch

from aiqvit.quant import formats
from aiqvit.recon.progressive import Candidates, Progressive, uniform_pairs


def rows(groups: int = 3, n: int = 500) -> torch.Tensor:
    return torch.randn(groups, n, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [3.0], [0.2]])


def error_of(x: torch.Tensor, bits: int):
    def score(scale, zero):
        y = formats.uniform_fake(x, scale[:, None], zero[:, None], bits)
        return (y - x).square().sum(1)
    return score


def test_without_refinement_it_is_the_best_of_all_candidates():
    x = rows()
    found = uniform_pairs(x, 3)
    scale, zero = Progressive(steps=0).best(found, error_of(x, 3))
    for g in range(3):
        errors = [error_of(x, 3)(a, b)[g].item() for a, b in zip(found.first, found.second, strict=True)]
        best = min(range(128), key=errors.__getitem__)
        assert (scale[g], zero[g]) == (found.first[best, g], found.second[best, g])


def test_refined_scales_are_within_a_hundredth_of_trying_all_finely():
    x = rows()
    scale, zero = Progressive().best(uniform_pairs(x, 3), error_of(x, 3))
    found = error_of(x, 3)(scale, zero)
    least = torch.full((3,), torch.inf)
    span = x.amax(1) - x.amin(1)
    for part in torch.linspace(0.01, 0.15, 400):
        for z in range(8):
            least = torch.minimum(least, error_of(x, 3)(part * span, torch.full((3,), float(z))))
    assert (found <= 1.01 * least).all()


def test_each_refinement_looks_around_the_best_that_were_kept():
    tried = []

    def score(first, second):
        tried.append((first.item(), second.item()))
        return (first - 3.3).abs() + second

    first = torch.arange(8.0)[:, None]
    search = Progressive(kept=1, offsets=3, steps=2, shrink=4)
    best = search.best(Candidates(first, torch.zeros(8, 1), torch.ones(1)), score)
    assert [t for t, _ in tried[8:]] == pytest.approx([2.5, 3, 3.5, 3.375, 3.5, 3.625])
    assert best[0].item() == pytest.approx(3.375) and best[1].item() == 0


def test_the_error_never_rises_with_more_refinement():
    x = rows()
    errors = [error_of(x, 4)(*Progressive(steps=steps).best(uniform_pairs(x, 4), error_of(x, 4))) for steps in range(4)]
    assert all((b <= a).all() for a, b in zip(errors, errors[1:], strict=False)) and (errors[3] < errors[0]).any()


def test_an_error_that_is_not_finite_is_not_the_best():
    def score(first, second):
        return torch.where(first < 2, torch.nan, first)

    candidates = Candidates(torch.arange(4.0)[:, None], torch.zeros(4, 1), torch.ones(1))
    assert Progressive(steps=0).best(candidates, score)[0].item() == 2


@pytest.mark.parametrize(("bits", "centred", "zeros", "steps"), [
    (2, False, range(4), 32), (3, False, range(8), 16), (4, False, range(16), 8), (2, True, range(1, 3), 64),
    (3, True, range(2, 6), 32), (4, True, range(4, 12), 16)])
def test_the_grid_up_to_4_bits_is_that_of_the_code(bits, centred, zeros, steps):
    x, last = rows(), 2**bits - 1
    found = uniform_pairs(x, bits, centred)
    assert found.first.shape == found.second.shape == (128, 3)
    for g, row in enumerate(x):
        low, high = row.quantile(0.9) - row.quantile(0.1), row.max() - row.min()
        expected = torch.linspace(0, 1, steps) * (high - low) / last + low / last
        torch.testing.assert_close(found.first[:, g].unique(), expected, rtol=1e-4, atol=1e-6)
        assert found.spacing[g].item() == pytest.approx((high - low).item() / last / (steps - 1), rel=1e-4)
        pairs = {(round(s.item(), 5), int(z)) for s, z in zip(found.first[:, g], found.second[:, g], strict=True)}
        assert {z for _, z in pairs} == set(zeros) and len(pairs) == 128


@pytest.mark.parametrize("bits", (5, 6, 8))
@pytest.mark.parametrize("sign", (1, -1))
def test_one_sided_tensors_keep_their_codes_from_5_bits_on(bits, sign):
    x = sign * torch.rand(1, 2000, generator=torch.Generator().manual_seed(0))
    scale, zero = Progressive().best(uniform_pairs(x, bits), error_of(x, bits))
    assert error_of(x, bits)(scale, zero).item() / 2000 < 1.1 / (2**bits - 1) ** 2 / 12
    assert 0 <= zero.item() <= 2**bits - 1


@pytest.mark.parametrize("bits", (3, 8))
@pytest.mark.parametrize("value", (0.0, 0.7, -0.7))
def test_constants_get_finite_pairs_that_hold_them(bits, value):
    x = torch.full((1, 50), value)
    scale, zero = Progressive().best(uniform_pairs(x, bits), error_of(x, bits))
    assert scale.item() > 0 and error_of(x, bits)(scale, zero).item() / 50 < 0.02 * value**2 + 1e-12
