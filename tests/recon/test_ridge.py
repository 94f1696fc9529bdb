"""ERQ's solvers against least squares on explicit rows and against a search over all moves."""

import pytest
import torch

from aiqvit.quant.observers import MinMax
from aiqvit.quant.quantizers import Uniform
from aiqvit.recon.layerwise import Gram
from aiqvit.recon.levels import Levels
from aiqvit.recon.ridge import reduce_activation_error, reduce_weight_error, refine, solve

ROWS, IN, OUT, RIDGE = 60, 9, 5, 0.7


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(seed=0):
    """Inputs with a last column of ones, the same quantized, and a weight with its bias."""
    x = random(ROWS, IN, seed=seed) @ random(IN, IN, seed=seed + 1)
    q = (x * 1.5).round() / 1.5
    x, q = (torch.cat([t, torch.ones(ROWS, 1, dtype=t.dtype)], dim=1) for t in (x, q))
    return x, q, random(OUT, IN + 1, seed=seed + 2)


def gram_of(q, x):
    return Gram(q.T @ q, q.T @ x, len(x))


def ridge_regression(rows, target, ridge):
    """argmin |rows d - target|^2 + ridge |d|^2, from stacked rows."""
    stacked = torch.cat([rows, ridge**0.5 * torch.eye(rows.shape[1], dtype=rows.dtype)])
    return torch.linalg.lstsq(stacked, torch.cat([target, target.new_zeros(rows.shape[1], target.shape[1])])).solution


def levels_of(weight, bits=3):
    quantizer = Uniform(bits, 0, MinMax())
    quantizer.calibrate(weight.float())
    return Levels.of(quantizer, weight)


def test_activation_step_is_ridge_regression_on_what_quantization_takes_away():
    x, q, weight = problem()
    change = ridge_regression(q, (x - q) @ weight.T, RIDGE).T
    torch.testing.assert_close(reduce_activation_error(weight, gram_of(q, x), RIDGE), weight + change)


def test_without_a_ridge_a_singular_matrix_has_a_solution():
    rows = random(4, 6)
    assert solve(rows.T @ rows, 0.0, random(6, 2)).isfinite().all()
    assert solve(torch.zeros(3, 3, dtype=torch.float64), 0.0, torch.zeros(3, 1, dtype=torch.float64)).eq(0).all()


def test_weight_step_without_refinement_is_half_after_half_by_ridge_regression():
    x, q, weight = problem()
    levels = levels_of(weight[:, :-1])
    expected, done = weight.clone(), 0
    for count in (5, 2, 1, 1):  # of 10, 5, 3, 2 columns that remain
        part, rest = slice(done, done + count), slice(done + count, None)
        new = levels.columns(part).quantize(expected[:, part])
        expected[:, rest] += ridge_regression(q[:, rest], -q[:, part] @ (new - expected[:, part]).T, RIDGE).T
        expected[:, part], done = new, done + count
    found = reduce_weight_error(weight, levels, gram_of(q, x), RIDGE, steps=0)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[:, :-1], levels.quantize(found[:, :-1])) and not torch.equal(found[:, -1], weight[:, -1])


@pytest.mark.parametrize("seed", range(4))
def test_weight_step_lowers_the_error_of_the_output(seed):
    x, q, weight = problem(seed)
    levels = levels_of(weight[:, :-1])
    nearest = torch.cat([levels.quantize(weight[:, :-1]), weight[:, -1:]], dim=1)
    refined = reduce_weight_error(weight, levels, gram_of(q, x), 0.01)
    assert (q @ (refined - weight).T).square().sum() < 0.8 * (q @ (nearest - weight).T).square().sum()


def by_search(error, floor, ceil, moment, steps):
    """Refinement of one row, its objective computed anew for each move."""
    for _ in range(steps):
        gradient = 2 * moment @ error
        wrong = [i for i in range(len(error)) if error[i] * gradient[i] > 0]
        if not wrong:
            break
        i = max(wrong, key=lambda i: abs(gradient[i]))
        aim, new = error[i] - gradient[i], error.clone()
        new[i] = ceil[i] if abs(aim - ceil[i]) <= abs(aim - floor[i]) else floor[i]
        if new @ moment @ new > error @ moment @ error:
            break
        error = new
    return error


@pytest.mark.parametrize("steps", (1, 3, 100))
def test_refinement_is_the_search_row_by_row_and_never_raises_its_objective(steps):
    rows, weight = random(40, 12) @ random(12, 12, seed=1), random(30, 12, seed=2)
    moment, levels = rows.T @ rows / 40, levels_of(weight)
    error, floor, ceil = (levels.quantize(weight, r) - weight for r in (torch.round, torch.floor, torch.ceil))
    found = refine(error, floor, ceil, moment, steps)
    expected = torch.stack([by_search(*row, moment, steps) for row in zip(error, floor, ceil, strict=True)])
    torch.testing.assert_close(found, expected)
    before, after = (((e @ moment) * e).sum(1) for e in (error, found))
    assert (after <= before + 1e-12).all() and after.sum() < 0.9 * before.sum()
    assert ((found == floor) | (found == ceil) | torch.isclose(found, error)).all()
