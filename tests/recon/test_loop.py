"""The loop lowers the loss, stops at NaN, and its samplers and losses are what they say."""

import pytest
import torch
from torch import nn

from aiqvit.interfaces import Diverged
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.curriculum import Curriculum, pace
from aiqvit.recon.loop import Group, Schedule, evaluate, guarded, reconstruct, sample_losses, uniform_sampler
from aiqvit.recon.objective import Objective, objective
from aiqvit.recon.walk import UnitData

MSE = objective("mse")


def linear_data(count: int = 12) -> UnitData:
    torch.manual_seed(0)
    unit, x = nn.Linear(4, 3), torch.randn(count, 5, 4)
    inputs, targets = Activations(ActivationStore(2**20)), Activations(ActivationStore(2**20))
    for part in x.split(5):
        inputs.append((part,))
        targets.append((part @ torch.ones(4, 3),))
    unit.requires_grad_(False)
    return UnitData("unit", unit, inputs, inputs, targets)


@pytest.mark.parametrize("loss", ("mse", "frobenius", "relative", "tokenwise", "token"))
def test_reconstruction_lowers_the_error(loss):
    data = linear_data()
    before = sample_losses(data, objective("frobenius")).mean()
    sampler = uniform_sampler(torch.arange(12), 6, torch.Generator().manual_seed(0))
    reconstruct(data, [Group(tuple(data.unit.parameters()), 0.05)], Schedule(300, 6, objective(loss)), sampler)
    assert sample_losses(data, objective("frobenius")).mean() < 0.05 * before
    assert not any(p.requires_grad for p in data.unit.parameters())


def test_a_loss_that_is_not_finite_names_the_unit():
    data = linear_data()
    data.unit.weight.data[0, 0] = float("nan")
    with pytest.raises(Diverged, match="unit: the loss is nan at step 0 of 5"):
        reconstruct(data, [Group((data.unit.bias,), 0.1)], Schedule(5, 4, MSE), lambda step: [0, 1, 2, 3])


def test_a_unit_that_training_makes_worse_is_put_back():
    data = linear_data()
    start = {key: value.clone() for key, value in data.unit.state_dict().items()}
    worse = guarded(data, Schedule(1, 4, MSE), lambda: data.unit.bias.data.add_(10.0))
    assert not worse["kept"] and worse["loss_after"] > worse["loss_before"]
    assert all(torch.equal(start[key], value) for key, value in data.unit.state_dict().items())
    x, y = data.inputs.gather(range(12))[0][0], data.targets.gather(range(12))[0][0]
    assert worse["loss_before"] == pytest.approx((data.unit(x) - y).square().mean().item(), rel=1e-5)
    better = guarded(data, Schedule(1, 4, MSE), lambda: data.unit.weight.data.fill_(1.0))
    assert better["kept"] and torch.equal(data.unit.weight, torch.ones(3, 4))


def test_inputs_are_mixed_element_by_element():
    data, seen = linear_data(), []
    data.fp_inputs = Activations(ActivationStore(2**20))
    data.fp_inputs.append((torch.full((12, 5, 4), 100.0),))
    data.unit.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for mix in (0.0, 0.25, 1.0):
        evaluate(data, range(12), MSE, mix)
    shares = [(x == 100).float().mean().item() for x in seen]
    assert shares[0] == 0 and 0.15 < shares[1] < 0.35 and shares[2] == 1


def test_the_loss_of_every_sample_is_in_the_order_of_samples():
    data = linear_data()
    alone = torch.stack([evaluate(data, [i], MSE) for i in range(12)])
    torch.testing.assert_close(sample_losses(data, objective("mse")), alone)
    norms = torch.stack([evaluate(data, [i], objective("frobenius")) for i in range(12)])
    torch.testing.assert_close(sample_losses(data, objective("frobenius")), norms)


class Counting(Objective):
    """Squared error times the number of the sample; remembers what it was told."""

    def __init__(self) -> None:
        self.started, self.steps = [], []

    def start(self, data):
        self.started.append(data.name)

    def update(self, step):
        self.steps.append(step)

    def errors(self, output, target, rows):
        return (output - target).square() * torch.tensor(rows)[:, None, None]


def test_an_objective_knows_the_rows_is_started_once_and_updated_every_step():
    data, goal = linear_data(), Counting()
    x, y = data.inputs.gather(range(12))[0][0], data.targets.gather(range(12))[0][0]
    explicit = (data.unit(x) - y).square() * torch.arange(12.0)[:, None, None]
    torch.testing.assert_close(evaluate(data, range(12), goal), explicit.mean())
    torch.testing.assert_close(goal(data.unit(x), y, range(12)), explicit.mean((1, 2)))  # one value a sample
    schedule = Schedule(3, 4, goal)
    guarded(data, schedule, lambda: reconstruct(data, [Group((data.unit.bias,), 0.1)], schedule, lambda step: [1, 2]))
    assert goal.started == ["unit"] and goal.steps == [0, 1, 2]


def test_a_unit_is_judged_on_the_inputs_that_it_trains_on_and_the_guard_can_be_off():
    data = linear_data()
    data.fp_inputs = Activations(ActivationStore(2**20))
    data.fp_inputs.append((torch.randn(12, 5, 4),))
    full = data.fp_inputs.gather(range(12))[0][0]
    target = data.targets.gather(range(12))[0][0]
    found = guarded(data, Schedule(1, 4, MSE, mix=1.0), lambda: None)
    assert found["loss_before"] == pytest.approx((data.unit(full) - target).square().mean().item(), rel=1e-5)
    worse = guarded(data, Schedule(1, 4, MSE), lambda: data.unit.bias.data.add_(10.0), put_back=False)
    assert worse["kept"] and worse["loss_after"] > worse["loss_before"] and data.unit.bias.min() > 5


def test_penalty_and_hooks_are_called():
    data, seen = linear_data(), []
    data.unit.bias.data.fill_(5.0)
    reconstruct(data, [Group((data.unit.bias,), 0.5)], Schedule(30, 4, MSE), lambda step: [0, 1],
                before_step=seen.append, after_step=lambda: data.unit.bias.data.clamp_(min=2.0),
                penalty=lambda step: 1e4 * data.unit.bias.square().sum())
    assert seen == list(range(30))
    assert torch.equal(data.unit.bias, torch.full((3,), 2.0))



@pytest.mark.parametrize("normalised", (True, False))
def test_the_loss_beside_a_penalty_is_divided_by_its_first_value_unless_told_otherwise(normalised):
    data = linear_data()
    schedule = Schedule(1, 12, objective("mse"), normalised=normalised)
    first, weight, before = evaluate(data, range(12), schedule.objective).item(), data.unit.weight, []

    def keep(step: int) -> torch.Tensor:
        (loss,) = torch.autograd.grad(evaluate(data, range(12), schedule.objective), weight)
        before.append(loss)
        return 0.0 * weight.sum()

    reconstruct(data, [Group((weight,), 0.0)], schedule, lambda step: list(range(12)), penalty=keep,
                after_step=lambda: before.append(weight.grad.clone()))
    torch.testing.assert_close(before[1], before[0] / (first if normalised else 1))


def test_uniform_sampler_passes_over_all_samples():
    draw = uniform_sampler(torch.arange(10), 4, torch.Generator().manual_seed(0))
    assert sorted(i for step in range(5) for i in draw(step)) == sorted(list(range(10)) * 2)
    assert len(uniform_sampler(torch.arange(3), 8, torch.Generator())(0)) == 3


def test_pace_is_eq17():
    assert [pace(t, 100) for t in (0, 50, 100, 200)] == [0.5, 0.75, 1.0, 1.0]
    assert pace(0, 10, 0.2) == 0.2
    assert [pace(t, 100, grow=0.5) for t in (0, 25, 50, 75)] == [0.5, 0.75, 1.0, 1.0]
    assert pace(0, 10, grow=0.0) == 0.5 and pace(1, 10, grow=0.0) == 1.0


def test_curriculum_draws_the_easiest_samples_first():
    data = linear_data()
    hardness = sample_losses(data, objective("token"))
    curriculum = Curriculum(data, Schedule(100, 4, objective("token")), torch.Generator().manual_seed(0))
    easiest = set(hardness.argsort()[:6].tolist())
    assert easiest != set(sample_losses(data, objective("frobenius")).argsort()[:6].tolist())  # ranks by what trains
    assert {i for _ in range(20) for i in curriculum(0)} == easiest
    for step in range(1, 100):
        curriculum(step)
    seen = {i for _ in range(40) for i in curriculum(99)}
    assert len(seen) == 12


def test_curriculum_shows_every_sample_in_use_once_a_pass():
    schedule = Schedule(1000, 3, MSE)
    curriculum = Curriculum(linear_data(), schedule, torch.Generator().manual_seed(0), start=0.5, refresh=1)
    first = [i for step in range(2) for i in curriculum(step)]
    assert sorted(first) == sorted(curriculum.pool(0).tolist())
    assert (len(first), len(curriculum.pool(1))) == (6, 7)  # a pool that grows does not cut the pass short


def test_curriculum_ranks_again_when_the_unit_has_changed():
    data = linear_data()
    curriculum = Curriculum(data, Schedule(100, 4, MSE), torch.Generator().manual_seed(0), refresh=10)
    curriculum(0)
    first = curriculum.order.clone()
    data.unit.weight.data = torch.randn(3, 4) * 5
    curriculum(5)
    assert torch.equal(curriculum.order, first)
    curriculum(10)
    assert torch.equal(curriculum.order, sample_losses(data, objective("mse")).argsort())
    assert not torch.equal(curriculum.order, first)
