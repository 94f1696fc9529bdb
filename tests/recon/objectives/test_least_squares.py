"""LS-ViT's fits against numpy's least squares and explicit sums, and that training with it lowers the loss."""

import numpy as np
import pytest
import torch

from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.loop import Schedule, sample_losses
from aiqvit.recon.objectives.least_squares import LeastSquares, Sums, alignment
from aiqvit.recon.rounded import RoundingRates, train_rounding
from tests.recon.objectives.data import explicit, two_data, unit_data


def drawn(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def summed(errors: torch.Tensor, gradients: torch.Tensor, batch: int = 4) -> Sums:
    sums = Sums(ActivationStore(2**20))
    for part in zip(errors.split(batch), gradients.split(batch), strict=True):
        sums.add(*part)
    return sums


def test_the_diagonal_is_the_least_squares_solution_of_each_element_but_not_negative():
    errors, gradients = drawn(10, 6), drawn(10, 6, 1)
    solutions = [np.linalg.lstsq(errors[:, [i]].numpy(), gradients[:, i].numpy(), rcond=None)[0][0] for i in range(6)]
    assert min(solutions) < 0 < max(solutions)
    torch.testing.assert_close(summed(errors, gradients).diagonal(), torch.tensor(solutions).clamp(min=0))
    errors[:, 2] = 0
    assert summed(errors, gradients).diagonal()[2] == 0


def test_the_vector_is_the_explicit_sum_over_images_with_a_positive_product():
    errors, gradients = drawn(10, 6), drawn(10, 6, 1)
    top = np.linalg.svd(gradients.numpy())[2][0]
    above = below = 0.0
    left_out = 0
    for g, d in zip(gradients.numpy(), errors.numpy(), strict=True):
        if g @ d <= 0:
            left_out += 1
            continue
        above = above + np.sign(g @ top) * g * np.sqrt(g @ d)
        below = below + g @ d
    assert 0 < left_out < 10
    found = summed(errors, gradients).vector().numpy()
    np.testing.assert_allclose(found * np.sign(found @ top), above / below * np.sign(above @ top), rtol=1e-8)
    assert summed(errors, -errors).vector().abs().sum() == 0


def test_a_hessian_of_rank_one_is_found_exactly_with_errors_of_both_signs():
    u, errors = drawn(1, 6, 2)[0], drawn(10, 6)
    found = summed(errors, torch.outer(errors @ u, u)).vector()
    torch.testing.assert_close(torch.outer(found, found), torch.outer(u, u))


def test_signs_are_those_of_the_rows_products_with_the_top_singular_vector():
    rows = drawn(9, 5)
    signs = alignment(rows.split(2))
    explicit_signs = (rows @ torch.linalg.svd(rows)[2][0]).sign()
    assert torch.equal(signs * signs[0], explicit_signs * explicit_signs[0])


def test_the_loss_of_an_image_is_the_explicit_form_of_its_own_shape():
    data, goal = two_data((4, 2)), LeastSquares()
    goal.start(data)
    for members in (range(6), range(6, 12)):
        found = [explicit(data, row) for row in members]
        errors, gradients = (torch.stack(part) for part in zip(*found, strict=True))
        sums = summed(errors, gradients)
        hessian = torch.diag(sums.diagonal()) + torch.outer(sums.vector(), sums.vector())
        (x,), _ = data.fp_inputs.gather(members)
        target = data.targets.gather(members)[0][0]
        losses = goal.errors(data.unit(x) + 0.1, target, list(members))
        torch.testing.assert_close(losses, torch.stack([0.5 * (e + 0.1) @ hessian @ (e + 0.1) for e in errors]))
        assert losses.shape == (6,) and losses.min() > 0


def test_gradients_of_the_loss_equal_finite_differences():
    data, goal = two_data(), LeastSquares()
    goal.start(data)
    (target,), _ = data.targets.gather([0, 1])
    output = data.unit(data.fp_inputs.gather([0, 1])[0][0]).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: goal.errors(z, target, [0, 1]), (output,))


def test_only_some_images_may_be_looked_at():
    data, goal = two_data(), LeastSquares(images=5)
    goal.start(data)
    errors, gradients = (torch.stack(part) for part in zip(*(explicit(data, row) for row in range(5)), strict=True))
    torch.testing.assert_close(goal.fits[0][0], summed(errors, gradients).diagonal())


@pytest.mark.parametrize(("kind", "unit"), [("vit", "blocks.0"), ("swin", "layers.0.blocks.1"),
                                            ("classifier", "blocks.0"), ("segmenter", "downs.0")])
def test_training_lowers_the_loss_and_is_the_same_every_time(kind, unit):
    def trained():
        data = unit_data(kind, unit, drop=0.5)
        schedule = Schedule(30, 4, LeastSquares(), mix=0.5)
        data.noise = torch.Generator().manual_seed(0)
        found = train_rounding(data, schedule, RoundingRates(0.05, 0.0, 0.1), torch.Generator().manual_seed(0),
                               lambda items, text: items)
        return found, sample_losses(data, schedule.objective)

    (found, losses), (again, same) = trained(), trained()
    assert found["kept"] and found["loss_after"] < 0.95 * found["loss_before"]
    assert found == again and torch.equal(losses, same)
