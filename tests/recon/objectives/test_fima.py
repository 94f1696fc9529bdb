"""FIMA-Q's terms against explicit matrices, its refreshes, and that training with it lowers the loss."""

import pytest
import torch

from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.loop import Schedule, guarded, sample_losses
from aiqvit.recon.objectives.fima import FIMA, Curvature, core
from aiqvit.recon.rounded import RoundingRates, train_rounding
from tests.recon.objectives.data import explicit, two_data, unit_data

DOUBLE = {"dtype": torch.float64}


def rows(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, size, generator=torch.Generator().manual_seed(seed), **DOUBLE) + 0.1


def test_terms_are_the_explicit_quadratic_forms():
    g, d, error = rows(3, 8), rows(3, 8, 1), rows(5, 8, 2)
    low_rank, diagonal = Curvature(g, d).terms(error)
    gram = d @ d.T
    matrix = g.T @ torch.linalg.inv(gram + 1e-6 * gram.trace() / 3 * torch.eye(3, **DOUBLE)) @ g  # (8, 8)
    torch.testing.assert_close(low_rank, torch.stack([e @ matrix @ e for e in error]))
    fisher = torch.diag(sum(g) / 3)
    torch.testing.assert_close(diagonal, torch.stack([e @ fisher @ e for e in error]) / 8)


def test_the_exact_form_is_the_fisher_matrix_where_its_rank_is_that_of_the_rows():
    factor = rows(3, 8) - 0.6
    fisher, d, error = factor.T @ factor, rows(3, 8, 1) - 0.6, rows(5, 8, 2)
    low_rank, _ = Curvature(d @ fisher, d, exact=True).terms(error)
    torch.testing.assert_close(low_rank, torch.stack([e @ fisher @ e for e in error]), rtol=1e-4, atol=1e-8)
    assert torch.linalg.eigvalsh(core(rows(4, 8), rows(4, 8, 1), exact=True)).min() > -1e-9  # whatever G and D are


def test_parallel_rows_are_damped():
    d = rows(1, 8).repeat(4, 1)
    low_rank, _ = Curvature(d, d).terms(rows(5, 8, 2))
    torch.testing.assert_close(low_rank, (rows(5, 8, 2) @ d[0]).square() / (d[0] @ d[0]), rtol=1e-4, atol=0)


def test_rows_are_means_over_images_of_absolute_gradients_and_errors():
    data, goal = two_data((4, 2)), FIMA(20, 2)
    goal.start(data)
    goal.update(0)
    data.unit.bias.add_(1.0)
    goal.update(10)
    for group, members in enumerate((range(6), range(6, 12))):
        found = [explicit(data, row) for row in members]
        curvature = goal.now[group]
        assert curvature.gradients.shape == curvature.errors.shape == (2, (8, 4)[group])
        torch.testing.assert_close(curvature.errors[1], sum(error.abs() for error, _ in found) / 6)
        torch.testing.assert_close(curvature.gradients[1], sum(gradient.abs() for _, gradient in found) / 6)
        assert torch.equal(curvature.gradients[0], goal.before[group].gradients[0])  # before the bias moved


def test_refreshes_every_floor_of_steps_over_k():
    cases = (20, 6, [0, 3, 6, 9, 12, 15, 18]), (20, 5, [0, 4, 8, 12, 16]), (3, 5, [0, 1, 2])
    for steps, refreshes, expected in cases:
        data, goal, counts = two_data(), FIMA(steps, refreshes, images=2), []
        goal.start(data)
        for step in range(steps):
            goal.update(step)
            counts.append(len(goal.now[0].gradients))
        assert [step for step in range(steps) if step == 0 or counts[step] > counts[step - 1]] == expected
    period = FIMA(20000, 15).period
    assert len(range(0, 20000, period)) == 16 and period == 1333


def outcome(data, chosen, moved=0.0):
    return data.unit(data.fp_inputs.gather(chosen)[0][0]) + moved, data.targets.gather(chosen)[0][0]


def test_both_terms_are_divided_by_their_first_mini_batch_behind_each_refresh():
    data, goal = two_data(), FIMA(4, 2)
    goal.start(data)
    for step, moved in enumerate((0.0, 0.5, 1.0, 0.0)):
        goal.update(step)
        output, target = outcome(data, [0, 1, 2], moved)
        errors, terms = goal.errors(output, target, [0, 1, 2]), goal.now[0].terms((output - target).flatten(1).abs())
        assert errors.shape == (3,)
        if step % 2 == 0:
            firsts = [term.mean() for term in terms]
            assert errors.mean().item() == pytest.approx(2.0)
        torch.testing.assert_close(errors, sum(t / first for t, first in zip(terms, firsts, strict=True)))


def test_gradients_of_the_loss_equal_finite_differences():
    data, goal = two_data(), FIMA(4, 2)
    goal.start(data)
    goal.update(0)
    output, target = outcome(data, [0, 1, 2])
    goal.errors(output, target, [0, 1, 2])
    output = output.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: goal.errors(z, target, [0, 1, 2]), (output,))


def test_a_unit_is_judged_by_the_curvature_before_training():
    data, goal, seen = two_data(), FIMA(4, 2), []
    data.inputs = data.fp_inputs

    def train():
        for step in range(4):
            goal.update(step)
            data.unit.bias.add_(0.1)
            seen.append(sample_losses(data, goal).mean().item())
        data.unit.bias.sub_(0.4)

    found = guarded(data, Schedule(4, 3, goal), train)
    assert found["loss_after"] == pytest.approx(found["loss_before"]) and len(set(seen)) == 4
    first = list(range(6))  # the batch that set the scale
    with torch.no_grad():
        judged = goal(*outcome(data, first), first)
    assert judged.mean().item() == pytest.approx(2.0)
    assert not torch.allclose(goal(*outcome(data, first), first), judged)  # in training by the curvature of then


@pytest.mark.parametrize(("kind", "unit"), [("vit", "blocks.0"), ("swin", "layers.0.blocks.1"),
                                            ("classifier", "blocks.0"), ("segmenter", "downs.0")])
def test_training_lowers_the_loss_and_is_the_same_every_time(kind, unit):
    def trained():
        data = unit_data(kind, unit, drop=0.5)
        schedule = Schedule(30, 4, FIMA(30, 3, images=6), mix=0.5)
        data.noise = torch.Generator().manual_seed(0)
        found = train_rounding(data, schedule, RoundingRates(0.05, 0.0, 0.1), torch.Generator().manual_seed(0),
                               lambda items, text: items)
        return found, sample_losses(data, schedule.objective)

    (found, losses), (again, same) = trained(), trained()
    assert found["kept"] and found["loss_after"] < 0.95 * found["loss_before"]
    assert found == again and torch.equal(losses, same)


def test_rows_count_in_the_memory_bound_of_activations():
    data, goal = two_data(), FIMA(4, 2)
    data.targets.store = store = ActivationStore(600)
    goal.start(data)
    for step in range(4):
        goal.update(step)
    assert store.used <= 600 and store.spilled > 0
