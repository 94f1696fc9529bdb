"""GLF-Q's two terms against hand-made ones: features in front of the head, logits, a part of the batch, gradients."""

import copy

import pytest
import torch
from torch.nn.functional import kl_div

from aiqvit.families.opening import open_model, quantize_model
from aiqvit.quant.surgery import calibrate
from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.objectives.output_gradients import OutputGradients
from aiqvit.recon.objectives.tail_aware import Features, Logits, head_layer
from aiqvit.recon.tail import Tail
from aiqvit.recon.walk import walk
from tests.models import clouds, images, tiny, tiny_points, uniform, units

BATCHES = [images(4, 1), images(2, 2)]
ROWS = [5, 1, 2]


def behind(family: str, unit: str):
    """A unit's data, the teacher, and a wrong output with the right one of the samples `ROWS`."""
    teacher = open_model(tiny(family))
    student = quantize_model(copy.deepcopy(teacher), uniform())
    calibrate(student, lambda model: model(BATCHES[0]))
    for data in walk(student, teacher, units(family), BATCHES, lambda model, x: model(x), ActivationStore(2**30)):
        if data.name == unit:
            (target,), _ = data.targets.gather(ROWS)
            noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(3))
            return data, teacher, target + 0.1 * noise, target
    raise AssertionError(unit)


def through(teacher, unit: str, output, at: str):
    """What reaches the module `at`, or leaves the network, with the unit's output replaced."""
    seen = []
    hooks = [teacher.get_submodule(unit).register_forward_hook(lambda *_: output)]
    if at:
        hooks.append(teacher.get_submodule(at).register_forward_pre_hook(lambda _, args: seen.append(args[0])))
    result = teacher(torch.cat(BATCHES)[ROWS])
    for hook in hooks:
        hook.remove()
    return seen[0] if at else result


CASES = [("vit", "blocks.0", "head"), ("deit", "blocks.1", "head"), ("swin", "layers.0.blocks.1", "head.fc"),
         ("vit", "patch_embed", "head")]


@pytest.mark.parametrize(("family", "unit", "at"), CASES)
def test_features_and_logits_are_those_of_the_network_behind_the_unit(family, unit, at):
    data, teacher, output, target = behind(family, unit)
    assert head_layer(teacher, lambda model: model(BATCHES[0])) == at
    local = (output - target).square().flatten(1).mean(1)
    apart = (through(teacher, unit, output, at) - through(teacher, unit, target, at)).square().mean(1)
    logits = [through(teacher, unit, value, "").log_softmax(-1) for value in (output, target)]
    divergence = kl_div(*logits, log_target=True, reduction="none").sum(1)
    for objective, global_ in ((Features(at), apart), (Logits(), divergence)):
        objective.start(data)
        expected = global_ / global_.mean() + 2 * local / local.mean()
        torch.testing.assert_close(objective.errors(output, target, ROWS), expected, rtol=1e-4, atol=1e-5)
        assert objective.errors(output, target, ROWS).mean().item() == pytest.approx(3, rel=1e-4)
        fewer = objective.errors(output[1:], target[1:], ROWS[1:])  # the first values stay
        torch.testing.assert_close(fewer, expected[1:], rtol=1e-4, atol=1e-5)


def test_a_part_of_the_batch_stands_for_all_of_it():
    data, teacher, output, target = behind("vit", "blocks.0")
    apart = (through(teacher, "blocks.0", output, "head") - through(teacher, "blocks.0", target, "head"))
    objective = Features("head", share=0.5, weight=0.0)
    objective.start(data)
    errors = objective.errors(output, target, ROWS)
    two = apart[:2].square().mean(1)
    torch.testing.assert_close(errors, torch.cat([two / two.mean() * 3 / 2, torch.zeros(1)]), rtol=1e-4, atol=1e-5)
    local = (output - target).square().flatten(1).mean(1)
    for none in (Features("head", share=0.0), Features("head", skip=0.5)):  # the second of four units
        none.start(data)
        torch.testing.assert_close(none.errors(output, target, ROWS), 2 * local / local.mean())
    last = Features("head", skip=0.25)
    last.start(data)
    assert not torch.allclose(last.errors(output, target, ROWS), 2 * local / local.mean())


def test_gradients_are_those_of_finite_differences():
    data, _, output, target = behind("vit", "blocks.0")
    objective = Features("head")
    objective.start(data)
    objective.errors(output, target, ROWS)  # sets the first values
    output.requires_grad_()
    objective.errors(output, target, ROWS).mean().backward()
    for place in ((0, 0, 3), (1, 5, 7), (2, 16, 0)):
        values = []
        for step in (1e-2, -1e-2):
            moved = output.detach().clone()
            moved[place] += step
            values.append(objective.errors(moved, target, ROWS).mean().item())
        assert output.grad[place].item() == pytest.approx((values[0] - values[1]) / 2e-2, rel=2e-2, abs=2e-4)


def test_products_in_bfloat16_move_values_and_gradients_by_little():
    data, _, output, target = behind("vit", "blocks.0")
    found = []
    for half in (False, True):
        objective, z = Features("head", half=half, weight=0.0), output.clone().requires_grad_()
        objective.start(data)
        errors = objective.errors(z, target, ROWS)
        assert errors.dtype == torch.float32 and not objective.errors(target, target, ROWS).any()
        found.append((objective.first[0], torch.autograd.grad(errors.mean(), z)[0]))
    for exact, rough in zip(*found, strict=True):
        assert not torch.equal(exact, rough) and (exact - rough).norm() < 0.15 * exact.norm()


def test_where_an_operator_has_no_bfloat16_all_is_in_float32(monkeypatch):
    monkeypatch.setattr(Tail, "takes_bfloat16", lambda *_: False)
    data, _, output, target = behind("vit", "blocks.0")
    found = []
    for half in (False, True):
        objective = Features("head", half=half)
        objective.start(data)
        found.append(objective.errors(output, target, ROWS))
    assert torch.equal(*found)
    data.bf16 = False
    _, _, exact = next(OutputGradients(data, batch=3).passes())
    data.bf16 = True
    assert torch.equal(exact, next(OutputGradients(data, batch=3).passes())[2])


def test_without_a_head_the_output_of_the_network_is_compared():
    points = open_model(tiny_points("classifier"))
    assert head_layer(points, lambda model: model(clouds())) == "classifier"
    model = open_model(tiny("vit"))
    assert head_layer(model, lambda vit: vit.forward_features(images())) == ""  # not called
    model.reset_classifier(0)
    assert head_layer(open_model(model), lambda vit: vit(images())) == ""
