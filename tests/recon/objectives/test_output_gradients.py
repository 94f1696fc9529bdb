"""Gradients of the network's output at a unit's output: the chain rule written out, finite differences, shapes."""

import pytest
import torch
from torch.nn.functional import kl_div

from aiqvit.recon.gradients import distance
from aiqvit.recon.objectives.output_gradients import OutputGradients
from tests.recon.objectives.data import explicit, two_data, unit_data


def test_errors_and_gradients_are_those_of_the_chain_rule_on_full_precision_inputs():
    data = two_data()
    seen = list(OutputGradients(data, batch=5).passes())
    assert [(group, len(errors)) for group, errors, _ in seen] == [(0, 5), (0, 5), (0, 2)]
    errors, gradients = (torch.cat([part[i] for part in seen]).flatten(1) for i in (1, 2))
    for row in range(12):
        error, gradient = explicit(data, row)
        torch.testing.assert_close(errors[row], error)
        torch.testing.assert_close(gradients[row], gradient)


@pytest.mark.parametrize(("kind", "unit"), [("vit", "blocks.0"), ("swin", "layers.0.blocks.1"),
                                            ("swin", "layers.1.downsample"), ("classifier", "blocks.0")])
def test_gradients_equal_finite_differences_of_the_divergence(kind, unit):
    data = unit_data(kind, unit)
    found = OutputGradients(data, batch=3)
    _, error, gradient = next(found.passes())
    rows, target = [0, 1, 2], data.targets.gather([0, 1, 2])[0][0]
    direction = gradient.sign() * torch.rand(gradient.shape, generator=torch.Generator().manual_seed(0))
    values, step = [], 1e-4

    def loss(z):
        with torch.no_grad():
            logits, wanted = (data.tail(t.double(), rows).double() / 20 for t in (z, target))
        return kl_div(logits.log_softmax(-1), wanted.softmax(-1), reduction="sum").item()

    data.tail.teacher.double()
    data.tail.calibration = [batch.double() for batch in data.tail.calibration]
    for sign in (1, -1):
        values.append(loss(target + error + sign * step * direction))
    assert (gradient * direction).sum().item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3)


@pytest.mark.parametrize(("kind", "unit"), [("vit", "blocks.0"), ("swin", "layers.0.blocks.1")])
def test_in_bfloat16_they_are_nearly_the_same(kind, unit):
    data = unit_data(kind, unit)
    _, error, exact = next(OutputGradients(data, batch=3).passes())
    data.bf16 = True
    _, same, half = next(OutputGradients(data, batch=3).passes())
    assert torch.equal(error, same) and half.dtype == torch.float32 and not torch.equal(exact, half)
    assert torch.cosine_similarity(exact.flatten(), half.flatten(), 0) > 0.95
    assert half.norm() / exact.norm() == pytest.approx(1, abs=0.1)


def test_temperature_divides_logits_and_nothing_else():
    a, b = torch.randn(3, 5), torch.randn(3, 5)
    maps = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    softened = (b / 20).softmax(1) * ((b / 20).log_softmax(1) - (a / 20).log_softmax(1))
    torch.testing.assert_close(distance(a, b, 20.0), softened.sum())
    assert torch.equal(distance(*maps, 20.0), distance(*maps))


def test_images_of_several_shapes_are_groups_and_a_share_is_taken_of_each():
    data = two_data((4, 2, 4))
    found = OutputGradients(data, images=6, batch=3)
    assert found.groups == [[0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17], [6, 7, 8, 9, 10, 11]]
    assert found.batches == [[0, 1, 2], [3], [6, 7]]
    for (group, error, gradient), rows in zip(found.passes(), found.batches, strict=True):
        assert group == found.group_of[rows[-1]] and error.shape == gradient.shape == (len(rows), (4, 2)[group], 2)
        torch.testing.assert_close(gradient[-1].flatten(), explicit(data, rows[-1])[1])
    assert OutputGradients(data, images=99).batches == OutputGradients(data).batches


def test_dropping_is_drawn_anew_while_it_is_asked_for_and_targets_are_run_once():
    data = unit_data("vit", "blocks.0", drop=0.5)
    found, runs = OutputGradients(data), []
    assert data.tail.skips  # tried first
    data.tail.teacher.blocks[1].register_forward_hook(lambda *_: runs.append(1))
    calm, again = (torch.cat([errors for _, errors, _ in found.passes()]) for _ in range(2))
    assert torch.equal(calm, again) and len(runs) == 6  # two batches: once the target, twice the output
    first, second = (torch.cat([errors for _, errors, _ in found.passes(dropping=True)]) for _ in range(2))
    assert not torch.equal(first, second) and first.abs().mean() < calm.abs().mean()
    assert not any(p.requires_grad or p.grad is not None for p in data.tail.teacher.parameters())
