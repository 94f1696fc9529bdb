"""The average perturbation map against explicit Hessians, and the loss that it weights."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import kl_div

from aiqvit.families.opening import open_model
from aiqvit.quant.anatomy import units_of
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.loop import Group, Schedule, reconstruct
from aiqvit.recon.objectives.perturbation import Perturbation, PerturbationMap, curvature, perturbation_map
from aiqvit.recon.tail import Tail
from aiqvit.recon.walk import UnitData
from tests.models import images, tiny


class Two(nn.Module):
    """Two linear layers with a nonlinearity between; samples (B, T, 3) become logits (B, 4), or tokens (B, T, 4)."""

    def __init__(self, pooled=True):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.pooled = nn.Linear(3, 2), nn.Linear(2, 4), pooled
        self.double().requires_grad_(False)

    def forward(self, x):
        return self.behind(self.a(x))

    def behind(self, z):
        y = self.b(z.tanh())
        return y.sum(1) * 10 if self.pooled else y


def call(model, batch):
    return model(batch)


def outputs_of(model, batches, unit="a"):
    """The tail behind a unit and the unit's outputs."""
    outputs = Activations(ActivationStore(2**30))
    hook = model.get_submodule(unit).register_forward_hook(lambda _, __, y: outputs.append((y,)))
    with torch.no_grad():
        for batch in batches:
            model(batch)
    hook.remove()
    return Tail(model, (unit,), unit, batches, call), outputs


def hessian(model, z):
    """Of one sample's KL divergence at temperature 20, or half squared error, in the output z (T, 2): (2 T, 2 T)."""
    with torch.no_grad():
        reference = model.behind(z[None])

    def loss(flat):
        out = model.behind(flat.view(1, *z.shape))
        if out.dim() == 3:
            return 0.5 * (out - reference).square().sum()
        return kl_div((out / 20).log_softmax(-1), (reference / 20).softmax(-1), reduction="sum")

    return torch.autograd.functional.hessian(loss, z.flatten())


@pytest.mark.parametrize("pooled", [True, False], ids=["logits", "tokens"])
def test_products_and_their_mean_are_those_of_the_explicit_hessian(pooled):
    model, draw = Two(pooled), torch.Generator().manual_seed(3)
    batches = [torch.randn(20, 3, 3, generator=draw, dtype=torch.float64),
               torch.randn(4, 5, 3, generator=draw, dtype=torch.float64)]
    tail, outputs = outputs_of(model, batches)
    (z,), _ = outputs.gather(range(6))
    every = [hessian(model, sample) for sample in z]
    for direction in (torch.ones_like(z), torch.randn(z.shape, generator=draw, dtype=z.dtype)):
        expected = torch.stack([H @ v.flatten() for H, v in zip(every, direction, strict=True)]).view_as(z)
        found = curvature(tail, z, list(range(6)), direction)
        assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
    found = perturbation_map(tail, outputs, torch.Generator().manual_seed(5)).maps
    signs = torch.Generator().manual_seed(5)
    for batch in batches:
        z, sums = model.a(batch), 0
        for part in z.split(16):  # samples at once
            v = torch.randint(0, 2, part.shape, generator=signs) * 2.0 - 1
            sums += sum((hessian(model, s) @ d.double().flatten()).abs() for s, d in zip(part, v, strict=True))
        expected = (sums / len(batch)).view(z.shape[1:])
        assert (found[z.shape[1:]] - expected).abs().max() < 1e-3 * expected.max()
    assert list(perturbation_map(tail, outputs, torch.Generator(), 2).maps) == [(3, 2)]


def test_float32_is_enough_where_a_difference_of_gradients_is_noise():
    model = open_model(tiny("vit")).requires_grad_(False)
    found = []
    for net in (model, copy.deepcopy(model).double()):
        x = images(4).to(next(net.parameters()))
        tail, outputs = outputs_of(net, [x], "blocks.0")
        found.append([perturbation_map(tail, outputs, torch.Generator().manual_seed(0)).maps[(17, 24)].double(),
                      curvature(tail, outputs.batches[0][0], range(4), torch.ones_like(outputs.batches[0][0]))])
    (single, _), (double, same_for_all) = found
    assert (single - double).abs().max() < 1e-2 * double.max()
    assert same_for_all.abs().max() < 1e-9 * double.max()  # a LayerNorm takes it away: see the module
    assert double.min() > 0


def unit_data(batches):
    model = Two()
    unit = copy.deepcopy(model.a)
    unit.weight += 0.3
    tail, targets = outputs_of(model, batches)
    inputs = Activations(targets.store)
    for batch in batches:
        inputs.append((batch,))
    return UnitData("a", unit, inputs, inputs, targets, tail)


def test_errors_are_weighted_with_the_map_of_their_shape_and_gradients_are_theirs():
    batches = [torch.randn(4, 3, 3, dtype=torch.float64), torch.randn(4, 5, 3, dtype=torch.float64)]
    data, objective = unit_data(batches), Perturbation(seed=2, images=8)
    objective.start(data)
    maps = perturbation_map(data.tail, data.targets, torch.Generator().manual_seed(2)).maps
    for batch in batches:
        output, target = data.unit(batch).detach().requires_grad_(), data.tail.teacher.a(batch)
        loss = objective.errors(output, target, range(4)).mean()
        h = maps[output.shape[1:]]
        by_hand = sum(((output[i] - target[i]) ** 2 * h).sum() for i in range(4)) / output.numel()
        torch.testing.assert_close(loss, by_hand)
        loss.backward()
        for at in ((0, 0, 0), (3, 2, 1)):
            step = torch.zeros_like(output)
            step[at] = 1e-6
            ends = [objective.errors(output.detach() + sign * step, target, range(4)).mean() for sign in (1, -1)]
            assert output.grad[at].item() == pytest.approx(((ends[0] - ends[1]) / 2e-6).item(), rel=1e-5, abs=1e-12)
    other = torch.randn(2, 7, 2, dtype=torch.float64)  # a shape that was not seen
    mean = torch.stack([h.mean() for h in maps.values()]).mean()
    torch.testing.assert_close(objective.errors(other, 0 * other, range(2)), other.square() * mean)


def test_a_scaled_map_has_a_mean_square_of_one():
    maps = PerturbationMap({torch.Size((2, 3)): torch.rand(2, 3), torch.Size((4, 3)): 5 * torch.rand(4, 3)}).scaled()
    values = torch.cat([part.flatten() for part in maps.maps.values()])
    torch.testing.assert_close(values.square().mean(), torch.tensor(1.0))
    zero = PerturbationMap({torch.Size((2,)): torch.zeros(2)}).scaled()
    assert torch.equal(zero.maps[(2,)], torch.ones(2))


def test_the_first_loss_counts_as_two_beside_a_penalty():
    data = unit_data([torch.randn(4, 3, 3, dtype=torch.float64)])
    objective, gradients = Perturbation(seed=0), []
    objective.start(data)
    reconstruct(data, [Group((data.unit.weight,), 1e-3)], Schedule(1, 4, objective), lambda step: [0, 1, 2, 3],
                after_step=lambda: gradients.append(data.unit.weight.grad.clone()))
    fresh = unit_data([data.inputs.batches[0][0]])
    weight = fresh.unit.weight.requires_grad_()
    loss = objective.errors(fresh.unit(data.inputs.batches[0][0]), data.targets.batches[0][0], range(4)).mean()
    (2 * loss / loss.detach()).backward()
    torch.testing.assert_close(gradients[0], weight.grad)


def test_other_outputs_of_real_units_have_a_map():
    model = open_model(tiny("swin")).requires_grad_(False)
    for unit in units_of(model)[:-1]:
        tail, outputs = outputs_of(model, [images(4)], unit)
        (h,) = perturbation_map(tail, outputs, torch.Generator().manual_seed(0)).maps.values()
        assert h.isfinite().all() and h.min() > 0
