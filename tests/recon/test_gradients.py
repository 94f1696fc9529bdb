"""Gradients at layers of the full-precision model, against finite differences."""

import copy

import pytest
import torch

from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Diverged
from aiqvit.quant.layers import QuantLayer, QuantMatMul
from aiqvit.recon.gradients import probe_loss, tensors_of, traces
from tests.models import FAMILIES, images, tiny, uniform, units


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def prepared(family: str) -> torch.nn.Module:
    return quantize_model(tiny(family), uniform())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_operation_of_a_unit_has_inputs_and_a_gradient_that_is_not_zero(family):
    model, unit = prepared(family), units(family)[1]
    wanted = [m for m in model.get_submodule(unit).modules() if isinstance(m, QuantLayer | QuantMatMul)]
    found = traces(model, unit, wanted, [images(4), images(4, 1)], lambda m, x: m(x),
                   lambda out: probe_loss(out, seeded()))
    assert len(found) == len(wanted) == 6
    for module, trace in found.items():
        assert trace.gradient.abs().max() > 0
        with torch.no_grad():
            assert module(*trace.inputs).shape == trace.gradient.shape
    assert all(p.grad is None for p in model.parameters())


def test_gradient_equals_finite_differences_of_the_loss():
    model = prepared("vit").double()
    layer = model.blocks[0].mlp.fc1
    x = images(2).double()

    def loss(out):
        return probe_loss(out, seeded(), "pseudo_label")

    gradient = traces(model, "blocks.0", [layer], [x], lambda m, b: m(b), loss)[layer].gradient
    for at in ((0, 0, 0), (1, 3, 7)):
        values = []
        for sign in (1, -1):
            def nudge(_, __, output, sign=sign):
                output = output.clone()
                output[at] += sign * 1e-5  # noqa: B023
                return output
            hook = layer.register_forward_hook(nudge)
            with torch.no_grad():
                values.append(loss(model(x)).item())
            hook.remove()
        assert gradient[at].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-7)


def test_expected_square_of_the_sampled_gradient_is_the_fisher_information():
    logits = torch.tensor([[1.0, -0.5, 0.3]]).repeat(40_000, 1).requires_grad_()
    probe_loss(logits, seeded()).backward()
    shares = logits[0].detach().softmax(0)
    torch.testing.assert_close(logits.grad.square().mean(0), shares * (1 - shares), atol=0.01, rtol=0.02)


def test_any_nested_output_has_a_loss():
    boxes, scores = torch.randn(2, 5, 4, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    output = {"a": (boxes, torch.tensor([1])), "b": [scores]}
    assert len(tensors_of(output)) == 2
    probe_loss(output, seeded()).backward()
    assert boxes.grad.abs().min() > 0 and scores.grad.abs().max() > 0


def test_the_model_is_left_as_it_was():
    model = prepared("vit")
    before = copy.deepcopy(model.state_dict())
    traces(model, "blocks.1", [model.blocks[1]], [images(2)], lambda m, x: m(x), lambda o: probe_loss(o, seeded()))
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in after if isinstance(after[key], torch.Tensor))
    assert not model.blocks[1]._forward_hooks and not model.blocks[1]._forward_pre_hooks


def test_perturbed_probe_pulls_towards_the_softmax_of_noisy_logits():
    logits = torch.randn(3, 5, requires_grad=True)
    probe_loss(logits, seeded(), "perturbed").backward()
    noisy = logits.detach() + torch.randn(3, 5, generator=seeded())
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - noisy.softmax(-1))


def test_output_that_is_not_finite_is_named():
    with pytest.raises(Diverged, match="not finite"):
        probe_loss(torch.tensor([[1.0, float("nan")]]), seeded())


class Named(torch.nn.Module):
    """Takes a dictionary, works in place on a layer's output and has a layer that the output does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.outer, self.unused = torch.nn.Linear(4, 5), torch.nn.Linear(5, 3), torch.nn.Linear(4, 2)

    def forward(self, batch: dict) -> torch.Tensor:
        self.unused(batch["x"])
        return self.outer(self.inner(batch["x"]).mul_(2.0))


def test_batches_that_are_no_tensors_and_layers_that_are_not_used():
    model, x = Named().requires_grad_(False), torch.randn(6, 4)
    found = traces(model, "", [model.inner, model.outer, model.unused], [{"x": x}], lambda m, b: m(b),
                   lambda out: probe_loss(out, seeded(), "pseudo_label"))
    logits = model({"x": x})
    expected = logits.softmax(-1) - torch.nn.functional.one_hot(logits.argmax(-1), 3)
    torch.testing.assert_close(found[model.outer].gradient, expected)
    torch.testing.assert_close(found[model.inner].gradient, 2 * expected @ model.outer.weight)
    assert torch.equal(found[model.unused].gradient, torch.zeros(6, 2))
