"""Low-rank terms, their mixture, and the search, against explicit sums."""

import copy

import pytest
import torch
from torch import nn

from aiqvit.families.opening import quantize_model
from aiqvit.method import merge
from aiqvit.quant.layers import QuantLinear
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.surgery import calibrate, quant_layers
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.loop import Schedule, evaluate, groups_of
from aiqvit.recon.lowrank import FORMS, LowRank, RankMixture, candidate_ranks
from aiqvit.recon.objective import objective
from aiqvit.recon.ranks import SearchConfig, _second_order, search_ranks
from aiqvit.recon.walk import UnitData, walk
from tests.models import images, tiny, uniform, units


def layer_of(seed: int = 0) -> QuantLinear:
    torch.manual_seed(seed)
    layer = QuantLinear(nn.Linear(12, 8), Uniform(4), Uniform(3, 0))
    layer.weight_quantizer.mode = "observe"
    layer.quantized_weight()
    return layer


def filled(weight: torch.Tensor, rank: int, form: str) -> LowRank:
    term = LowRank(weight, rank, form)
    nn.init.normal_(term.B, std=0.3)
    return term


@pytest.mark.parametrize("form", FORMS)
def test_a_new_term_changes_nothing(form):
    layer = layer_of()
    before = layer.quantized_weight()
    layer.compensation = LowRank(layer.weight, 3, form)
    assert torch.equal(layer.quantized_weight(), before)


@pytest.mark.parametrize("form", FORMS)
def test_forms_and_what_is_left_after_settling(form):
    layer, start = layer_of(), layer_of().weight.detach().clone()
    term = layer.compensation = filled(layer.weight, 3, form)
    q, product = layer.weight_quantizer, term.B @ term.A
    trained = layer.quantized_weight().detach()
    explicit = {"merged": lambda: q.fake(start + product), "outside": lambda: q.fake(start) + product,
                "qllm": lambda: q.fake(start) + product / 3}[form]()
    torch.testing.assert_close(trained, explicit.detach())
    merge(layer)
    left = layer.quantized_weight().detach()
    if form == "qllm":
        torch.testing.assert_close(layer.weight, (start + product / 3).detach())
    else:
        torch.testing.assert_close(left, trained)
    assert layer.compensation is None and (layer.offset is not None) == (form == "outside")
    if form != "outside":
        assert torch.equal(left, q.decode(q.encode(layer.weight)))


def test_mixture_equals_the_explicit_sum_over_kept_candidates():
    layer = layer_of()
    mixture = RankMixture(layer.weight, (2, 3, 8), "merged", 0.5)
    for candidate in mixture.candidates:
        nn.init.normal_(candidate.B, std=0.3)
    mixture.alpha.data = torch.tensor([0.3, -1.0, 2.0])
    mixture.keep = torch.tensor([1.0, 0.0, 1.0])
    share = mixture.alpha.softmax(0)
    outputs = [layer.weight_quantizer.fake(layer.weight + c.B @ c.A) for c in mixture.candidates]
    expected = (share[0] * outputs[0] + share[2] * outputs[2]) / (share[0] + share[2])
    torch.testing.assert_close(mixture(layer.weight, layer.weight_quantizer), expected)
    assert mixture.best().rank == 8


def test_drop_path_keeps_at_least_one_and_has_the_right_rate():
    mixture = RankMixture(torch.randn(8, 12), (1, 2, 3, 4), "merged", 0.3)
    generator, kept = torch.Generator().manual_seed(0), []
    for _ in range(800):
        mixture.redraw(generator)
        kept.append(mixture.keep.sum().item())
    assert min(kept) >= 1
    assert sum(kept) / len(kept) / 4 == pytest.approx(0.7, abs=0.03)


def test_candidate_ranks_fit_the_layer():
    weight = torch.zeros(64, 48)
    assert candidate_ranks(weight, (20, 40, 60, 80), full=False) == (20, 40, 47)
    assert candidate_ranks(weight, (20, 40), full=True) == (20, 40, 48)
    assert candidate_ranks(torch.zeros(64, 3, 4, 4), (20, 100), full=False) == (20, 47)


def block_data() -> UnitData:
    teacher = tiny("vit")
    student = quantize_model(copy.deepcopy(teacher), uniform(3, 8))
    calibrate(student, lambda m: m(images(8)))
    return list(walk(student, teacher, units("vit"), [images(8)], lambda m, b: m(b), ActivationStore(2**30)))[1]


@pytest.mark.parametrize("second_order", (0.0, 1e-3))
def test_search_leaves_a_candidate_in_every_layer(second_order):
    data = block_data()
    layers = dict(quant_layers(data.unit))
    config = SearchConfig(Schedule(4, 4, objective("mse")), (2, 5), True, "merged", 0.1, 0.03, 0.05, second_order)
    found = search_ranks(data, layers, config, [], torch.Generator().manual_seed(0),
                         torch.Generator().manual_seed(0), lambda: None, lambda i, t: i)
    assert set(found) == {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}
    for name, (rank, shares) in found.items():
        assert rank in (2, 5, 24) and layers[name].compensation.rank == rank
        assert sum(shares) == pytest.approx(1, abs=1e-3) and len(set(shares)) > 1
        assert max(range(3), key=lambda i: shares[i]) == (2, 5, 24).index(rank)


def test_second_order_gradient_equals_the_total_derivative_after_one_step():
    """On y = (w + a) x with a smooth loss, against finite differences through the unrolled step."""
    torch.manual_seed(0)
    unit = nn.Linear(3, 2, bias=False).double()
    alpha = nn.Parameter(torch.tensor([0.3], dtype=torch.float64))
    original = unit.forward
    unit.forward = lambda x: original(x) * alpha
    inputs, targets = Activations(ActivationStore(2**20)), Activations(ActivationStore(2**20))
    inputs.append((torch.randn(6, 3, dtype=torch.float64),))
    targets.append((torch.randn(6, 2, dtype=torch.float64),))
    data, loss, rate = UnitData("unit", unit, inputs, inputs, targets), objective("mse"), 0.3
    start, factors = unit.weight.detach().clone(), (unit.weight,)
    (ours,) = _second_order(data, factors, [alpha], [0, 1, 2], [3, 4, 5], rate, loss)
    torch.testing.assert_close(unit.weight.detach(), start)

    def unrolled(value: float) -> float:
        alpha.data.fill_(value)
        unit.weight.data.copy_(start)
        (step,) = torch.autograd.grad(evaluate(data, [0, 1, 2], loss), factors)
        unit.weight.data -= rate * step
        return evaluate(data, [3, 4, 5], loss).item()

    numeric = (unrolled(0.3 + 1e-5) - unrolled(0.3 - 1e-5)) / 2e-5
    assert ours.item() == pytest.approx(numeric, rel=1e-3)


def test_one_learning_rate_moves_the_weight_equally_far_at_every_rank():
    torch.manual_seed(0)
    layer, moves = layer_of(), []
    weight = torch.randn(192, 192) / 14
    for rank in (20, 60, 100, 192):
        term = LowRank(weight, rank)
        groups = groups_of(term.trainables(layer.weight_quantizer), 0.03)
        optimizer = torch.optim.Adam([{"params": list(g.parameters), "lr": g.rate} for g in groups])
        (term.delta(weight) * torch.randn(192, 192)).sum().backward()
        optimizer.step()
        moves.append(term.delta(weight).square().mean().sqrt().item())
    assert max(moves) < 1.25 * min(moves)
