"""The grid search against loops."""

import pytest
import torch

from aiqvit.quant.quantizers import Uniform
from aiqvit.recon.scale_search import Grid, group_maxima, output_error, search_by_halving, search_range, symmetric


def test_grid_has_both_ends():
    factors = Grid(0.01, 1.2, 100).factors()
    assert len(factors) == 101 and factors[0] == 0.01 and factors[-1] == pytest.approx(1.2)


def test_errors_are_the_explicit_sums():
    torch.manual_seed(0)
    raw, out, grad = torch.randn(3, 7, 6).unbind(0)
    hessian, mse = (output_error(raw, out, grad, m, 3) for m in ("hessian", "mse"))
    cosine = output_error(raw, out, grad, "cosine", 3)
    for g in range(3):
        columns = range(2 * g, 2 * g + 2)
        explicit = sum((grad[n, c] * (raw[n, c] - out[n, c])) ** 2 for n in range(7) for c in columns) / 7
        plain = sum((raw[n, c] - out[n, c]) ** 2 for n in range(7) for c in columns) / 7
        a, b = raw[:, columns].flatten(), out[:, columns].flatten()
        assert hessian[g].item() == pytest.approx(explicit.item(), rel=1e-5)
        assert mse[g].item() == pytest.approx(plain.item(), rel=1e-5)
        assert cosine[g].item() == pytest.approx(1 - (a @ b / a.norm() / b.norm()).item(), abs=1e-5)


def test_each_group_gets_its_best_candidate():
    torch.manual_seed(0)
    weight = torch.randn(6, 50) * torch.tensor([1.0, 1, 3, 3, 9, 9])[:, None]
    quantizer, base = Uniform(3, 0, symmetric=True), group_maxima(weight, 3)
    factors = Grid(0.2, 1.2, 20).factors()

    def error() -> torch.Tensor:
        return (quantizer.fake(weight) - weight).square().reshape(3, -1).mean(1)

    take = symmetric(quantizer, lambda high: high.repeat_interleave(2)[:, None])
    chosen = search_range(take, [base * f for f in factors], error)
    for g in range(3):
        rows, losses = weight[2 * g : 2 * g + 2], []
        for f in factors:
            scale = base[g] * f / 3.5
            losses.append((((rows / scale).round().clamp(-4, 3) * scale - rows) ** 2).mean().item())
        assert chosen[g].item() == pytest.approx(base[g].item() * factors[losses.index(min(losses))], rel=1e-5)
    torch.testing.assert_close(quantizer.scale.flatten(), (chosen / 3.5).repeat_interleave(2))


def test_candidates_that_are_not_finite_never_win():
    quantizer = Uniform(3, symmetric=True)
    scores = iter([float("nan"), 2.0, float("inf")])
    highs = [torch.tensor([float(i)]) for i in (1, 2, 3)]
    chosen = search_range(symmetric(quantizer), highs, lambda: torch.tensor([next(scores)]))
    assert chosen.item() == 2


def test_zero_tensors_have_a_positive_range():
    assert group_maxima(torch.zeros(4, 3), 2).min() > 0


def test_without_any_gradient_the_widest_range_is_kept():
    """PTQ4ViT's collapse: a loss without gradient scores all candidates alike."""
    quantizer, x = Uniform(4, symmetric=True), torch.randn(8, 3)
    highs = [x.abs().max()[None] * f for f in Grid().factors()]
    chosen = search_range(symmetric(quantizer), highs,
                          lambda: output_error(x, quantizer.fake(x), torch.zeros(8, 3), "hessian"))
    assert chosen.item() == pytest.approx(1.2 * x.abs().max().item())


@pytest.mark.parametrize("least", [0, 1, 37, 63, 99, 100])
def test_halving_finds_the_least_of_a_valley_in_few_evaluations(least):
    quantizer, tried = Uniform(4, symmetric=True), []
    highs = [torch.tensor([1.0 + i]) for i in range(101)]

    def error() -> torch.Tensor:
        tried.append(round(quantizer.scale.item() * 7.5 - 1))
        return torch.tensor([float(abs(tried[-1] - least))])

    assert search_by_halving(symmetric(quantizer), highs, error, 8).item() == 1 + least
    assert quantizer.scale.item() * 7.5 == pytest.approx(1 + least)
    assert len(tried) <= 13 + 2 * 3 and len(set(tried)) == len(tried)


def test_halving_with_a_stride_of_one_is_the_whole_grid():
    scores = [3.0, float("nan"), 1.0, 2.0, 1.0, float("inf")]
    for search in (search_range, lambda *a: search_by_halving(*a, 1)):
        left = iter(scores)
        highs = [torch.tensor([float(i)]) for i in range(6)]
        assert search(lambda high: None, highs, lambda: torch.tensor([next(left)])).item() == 4  # noqa: B023


@pytest.mark.parametrize("stride", [0, -8])
def test_a_stride_below_one_is_named(stride):
    with pytest.raises(ValueError, match=f"stride is {stride}"):
        search_by_halving(lambda high: None, [torch.ones(1)], lambda: torch.ones(1), stride)
