"""GPTQ's and GPTAQ's updates against least squares over the columns that remain, column by column."""

import pytest
import torch

from aiqvit.quant.observers import MinMax
from aiqvit.quant.quantizers import Uniform
from aiqvit.recon.layerwise import Gram
from aiqvit.recon.levels import Levels
from aiqvit.recon.sequential import round_sequentially

ROWS, IN, OUT = 50, 11, 4


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem():
    """Inputs on the full-precision and on the quantized path, a weight, its levels."""
    x = random(ROWS, IN) @ random(IN, IN, seed=1)
    weight = random(OUT, IN, seed=2)
    quantizer = Uniform(3, 0, MinMax())
    quantizer.calibrate(weight.float())
    return x, x + 0.3 * random(ROWS, IN, seed=3), weight, Levels.of(quantizer, weight)


def brute_force(x, q, weight, levels, alpha, damping):
    """Each column rounded in turn; those after it from stacked rows: inputs, and the damping as inputs of their own."""
    order = q.square().sum(0).argsort(descending=True)
    size = (damping * q.square().sum(0).mean()).sqrt()
    rows = torch.cat([q, size * torch.eye(IN, dtype=q.dtype)])  # H = rows^T rows
    weight, result = weight.clone(), torch.zeros_like(weight)
    for k, i in enumerate(order):
        rest = order[k + 1 :]
        result[:, i] = levels.columns(i[None]).quantize(weight[:, i, None])[:, 0]
        drift = torch.cat([x[:, i] - q[:, i], rows.new_zeros(IN)])
        target = torch.outer(rows[:, i], weight[:, i] - result[:, i]) + alpha * torch.outer(drift, weight[:, i])
        if len(rest):
            weight[:, rest] += torch.linalg.lstsq(rows[:, rest], target).solution.T
    return result


@pytest.mark.parametrize("block", (1, 4, 128))
@pytest.mark.parametrize("damping", (0.01, 0.1))
@pytest.mark.parametrize("alpha", (0.0, 0.25, 1.0))
def test_each_column_leaves_to_the_others_what_least_squares_gives_them(alpha, damping, block):
    x, q, weight, levels = problem()
    before = weight.clone()
    found = round_sequentially(weight, levels, Gram(q.T @ q, q.T @ x, ROWS), alpha, damping, block)
    torch.testing.assert_close(found, brute_force(x, q, weight, levels, alpha, damping))
    assert torch.equal(weight, before) and torch.equal(found, levels.quantize(found))


def test_the_output_is_nearer_to_full_precision_than_with_nearest_rounding():
    x, q, weight, levels = problem()
    errors = {}
    for alpha in (0.0, 1.0):
        found = round_sequentially(weight, levels, Gram(q.T @ q, q.T @ x, ROWS), alpha, 0.01)
        errors[alpha] = (q @ found.T - x @ weight.T).square().sum()
    nearest = (q @ levels.quantize(weight).T - x @ weight.T).square().sum()
    assert errors[1.0] < errors[0.0] < nearest


def test_columns_without_an_input_become_zero():
    x, q, weight, levels = problem()
    q[:, 3] = 0
    found = round_sequentially(weight, levels, Gram(q.T @ q, q.T @ x, ROWS))
    assert found[:, 3].eq(0).all() and found.isfinite().all()
