"""AdaRound against the published formulas, and what BRECQ and QDrop do with it."""

import copy
import math

import pytest
import torch

from aiqvit.families.opening import quantize_model
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.surgery import calibrate, quant_layers
from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.loop import Schedule
from aiqvit.recon.objective import objective
from aiqvit.recon.rounded import RoundingRates, train_rounding
from aiqvit.recon.rounding import AdaRound, RoundingPenalty, harden, place_rounding
from aiqvit.recon.walk import walk
from tests.models import images, tiny, uniform, units


def observed(bits: int = 3) -> tuple[torch.Tensor, Uniform]:
    torch.manual_seed(0)
    weight, quantizer = torch.randn(6, 10), Uniform(bits, 0)
    quantizer.calibrate(weight)
    quantizer.mode = "on"
    return weight, quantizer


def test_h_is_the_stretched_sigmoid_and_starts_at_the_fraction():
    weight, quantizer = observed()
    rounding = AdaRound(weight, quantizer)
    for alpha in (-3.0, -1.0, 0.0, 0.7, 4.0):
        rounding.alpha.data.fill_(alpha)
        explicit = min(max(1.2 / (1 + math.exp(-alpha)) - 0.1, 0.0), 1.0)
        assert rounding.h()[0, 0].item() == pytest.approx(explicit, abs=1e-6)
    fresh, codes = AdaRound(weight, quantizer), weight / quantizer.scale
    torch.testing.assert_close(fresh.h(), codes - codes.floor(), atol=1e-5, rtol=0)
    inside = (codes.floor() + quantizer.zero >= 0) & (codes.ceil() + quantizer.zero <= 7)
    torch.testing.assert_close(fresh(weight, quantizer)[inside], weight[inside], atol=1e-5, rtol=1e-5)


def test_hard_rounding_at_first_is_nearest_rounding_and_always_on_the_grid():
    weight, quantizer = observed()
    rounding = AdaRound(weight, quantizer)
    torch.testing.assert_close(rounding.hard(quantizer), quantizer.fake(weight))
    rounding.alpha.data = torch.randn_like(rounding.alpha) * 3
    hard = rounding.hard(quantizer)
    codes = hard / quantizer.scale + quantizer.zero
    torch.testing.assert_close(codes, codes.round(), atol=1e-4, rtol=0)
    assert codes.round().min() >= 0 and codes.round().max() <= 7
    torch.testing.assert_close(quantizer.fake(hard), hard)
    assert ((hard - weight).abs() <= 1.001 * quantizer.scale)[(codes > 0.5) & (codes < 6.5)].all()


def test_regulariser_and_its_exponent_follow_the_formulas():
    weight, quantizer = observed()
    rounding = AdaRound(weight, quantizer)
    h = rounding.h().flatten().tolist()
    explicit = sum(1 - abs(2 * value - 1) ** 4.0 for value in h)
    assert rounding.regulariser(4.0).item() == pytest.approx(explicit, rel=1e-5)
    penalty = RoundingPenalty((rounding,), 100)
    assert penalty(0) == penalty(19) == 0.0
    assert [penalty.beta(step) for step in (20, 60, 100)] == pytest.approx([20, 11, 2])
    assert penalty(60).item() == pytest.approx(0.01 * rounding.regulariser(11.0).item())


def test_gradient_of_alpha_against_finite_differences():
    weight, quantizer = observed()
    rounding = AdaRound(weight.double(), quantizer).double()
    rounding.alpha.data = torch.linspace(-1.5, 1.5, 60, dtype=torch.float64).view(6, 10)
    target = torch.randn(6, 10, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return ((rounding(weight.double(), quantizer) - target) ** 2).sum() + 0.1 * rounding.regulariser(3.0)

    loss().backward()
    for at in ((0, 0), (2, 5), (5, 9)):
        with torch.no_grad():
            rounding.alpha[at] += 1e-5
            up = loss()
            rounding.alpha[at] -= 2e-5
            numeric = (up - loss()) / 2e-5
            rounding.alpha[at] += 1e-5
        assert rounding.alpha.grad[at].item() == pytest.approx(numeric.item(), rel=1e-3, abs=1e-6)


def test_half_of_the_elements_are_dropped_only_while_gradients_flow():
    torch.manual_seed(0)
    x, quantizer = torch.rand(200, 200) + 0.01, Uniform(2)
    quantizer.calibrate(x)
    quantizer.mode, quantizer.drop = "on", 0.5
    assert 0.48 < (quantizer(x) == x).float().mean() < 0.52
    assert not torch.equal(quantizer(x), quantizer(x))
    with torch.no_grad():
        assert torch.equal(quantizer(x), quantizer.fake(x))


def test_training_lowers_the_error_and_leaves_hard_weights():
    teacher = tiny("vit")
    student = quantize_model(copy.deepcopy(teacher), uniform(3, 8))
    calibrate(student, lambda m: m(images(8)))
    data = list(walk(student, teacher, units("vit"), [images(8)], lambda m, b: m(b), ActivationStore(2**30)))[1]
    losses = train_rounding(data, Schedule(150, 8, objective("mse")), RoundingRates(0.03, 1e-3),
                            torch.Generator().manual_seed(0),
                            lambda items, text: items)
    assert losses["kept"] and losses["loss_after"] < 0.9 * losses["loss_before"]
    for _, layer in quant_layers(data.unit):
        assert layer.compensation is None
        torch.testing.assert_close(layer.weight_quantizer.fake(layer.weight), layer.weight, rtol=1e-4, atol=1e-6)


def test_placing_and_settling_without_training_rounds_to_nearest():
    model = quantize_model(tiny("vit"), uniform(4, 8))
    calibrate(model, lambda m: m(images(4)))
    layers = [layer for _, layer in quant_layers(model)]
    expected = [layer.weight_quantizer.fake(layer.weight) for layer in layers]
    place_rounding(layers)
    harden(layers)
    for layer, weight in zip(layers, expected, strict=True):
        torch.testing.assert_close(layer.weight, weight)
