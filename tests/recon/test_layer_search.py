"""Output errors against explicit products, and the search of a layer's two operands against trying everything."""

import copy

import pytest
import torch
from aiqvit.baselines.adalog import AdaLog
from torch import nn
from torch.nn.functional import gelu

from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Bits, Job
from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantMatMul, QuantWeightedSum
from aiqvit.quant.quantizers import AdaptiveLog, Float, Uniform
from aiqvit.quant.quantizers.adaptive_log import NUMERATORS
from aiqvit.quant.surgery import set_mode
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.layer_search import LayerSearch, Operand, OutputError
from aiqvit.recon.progressive import Progressive, uniform_pairs
from aiqvit.recon.unit_search import Sample, product_operands, search_unit
from aiqvit.recon.walk import UnitData
from tests.models import FAMILIES, images, tiny

GRID = LayerSearch(1, Progressive(steps=0), Progressive(kept=32, offsets=4, steps=0))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "width", "columns"), [(7, 5, 11), (7, 11, 5)])
@pytest.mark.parametrize("maps", ((), (2, 3)))
def test_the_output_error_is_that_of_the_product(rows, width, columns, maps):
    left, right = random(*maps, rows, width), random(*maps, columns, width, seed=1)
    new, other = left + 0.1 * random(*maps, rows, width, seed=2), right + 0.1 * random(*maps, columns, width, seed=3)
    error = OutputError(left, right, other)
    assert error.short == (width < columns)
    expected = (new @ other.transpose(-2, -1) - left @ right.transpose(-2, -1)).square().sum(-1, keepdim=True)
    for _ in range(2):  # nothing is overwritten
        torch.testing.assert_close(error(new), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ("transposed", "plain", "sum"))
def test_operands_of_products_stand_for_their_product(kind):
    product = {"transposed": QuantMatMul(Uniform(4), Uniform(4), True), "plain": QuantMatMul(Uniform(4), Uniform(4)),
               "sum": QuantWeightedSum(Uniform(4), Uniform(4))}[kind]
    left = random(2, 3, 6, 5)
    right = random(*{"transposed": (2, 3, 7, 5), "plain": (2, 3, 5, 7), "sum": (2, 3, 6, 5)}[kind], seed=1)
    first, second = product_operands(product, left, right)
    y = first.values @ second.values.transpose(-2, -1)
    torch.testing.assert_close(y.reshape(product.multiply(left, right).shape), product.multiply(left, right))


@pytest.mark.parametrize("axis", (None, 0))
def test_one_round_on_the_grid_is_the_best_of_all_pairs(axis):
    x, weight = random(40, 6), random(5, 6, seed=1)
    first, second = Operand(Uniform(3, axis), weight, True), Operand(Uniform(3), x)
    GRID(first, second)
    inputs = Uniform(3)  # as the first round of the weights finds them: by their own error
    own = Operand(inputs, x)
    GRID.search(own, own.own_errors)
    scores = []
    candidates = uniform_pairs(first.quantizer.grouped(weight), 3, True)
    for scale, zero in zip(candidates.first, candidates.second, strict=True):
        trial = Operand(Uniform(3, axis), weight)
        trial.take(scale, zero)
        off = (inputs.fake(x) @ trial.quantized().T - x @ weight.T).square().sum(0)  # (out,)
        scores.append(off if axis == 0 else off.sum().reshape(1))
    best = torch.stack(scores).argmin(0, keepdim=True)
    torch.testing.assert_close(first.quantizer.scale.flatten(), candidates.first.gather(0, best)[0])
    assert torch.equal(first.quantizer.zero.flatten(), candidates.second.gather(0, best)[0])


def test_the_base_of_a_map_is_the_best_of_all_for_the_product_and_its_scale_stays_1():
    maps, values = (3 * random(2, 2, 9, 9)).softmax(-1), random(2, 2, 9, 4, seed=1)
    product = QuantMatMul(AdaptiveLog(3), Uniform(3))
    first, second = product_operands(product, maps, values)
    LayerSearch(0)(first, second)
    quantized = product.right_quantizer.fake(values)
    GRID.search(first, OutputError(first.values, second.values, second.quantized()))
    errors = {}
    for numerator in NUMERATORS:
        q = AdaptiveLog(3)
        q.numerator.fill_(numerator)
        errors[numerator] = (q.fake(maps) @ quantized - maps @ values).square().sum().item()
    assert product.left_quantizer.numerator.item() == min(errors, key=errors.get)
    assert product.left_quantizer.scale.item() == 1


def test_bases_and_scales_behind_gelu_are_8_times_16_pairs_whose_best_is_taken():
    x = gelu(random(300, 5))
    operand = Operand(AdaptiveLog(3, shifted=True), x)
    LayerSearch(0, logarithmic=Progressive(steps=0))(operand, Operand(Float(), random(4, 5)))
    seen = []

    def errors(y: torch.Tensor) -> torch.Tensor:
        seen.append((operand.quantizer.scale.item(), operand.quantizer.numerator.item()))
        return (y - x).square()

    before = operand.quantizer.scale.item()
    GRID.search(operand, errors)
    first, pairs = seen[:128], seen[128:]
    assert {s for s, _ in first} == {before} and [n for _, n in first] == list(NUMERATORS)
    scales = sorted({s for s, _ in pairs})
    assert len(pairs) == 128 and len({n for _, n in pairs}) == 8 and len(scales) == 16
    assert scales[-1] == pytest.approx(x.max().item() + 0.16997124, rel=1e-5)
    assert scales[0] == pytest.approx(x[x > 0].quantile(0.9).item() + 0.16997124, rel=1e-2)


def test_rounds_lower_the_error_of_the_output():
    x, weight = random(200, 12) * random(12, seed=5).exp(), random(10, 12, seed=1)
    errors = []
    for rounds in (0, 1, 3):
        first, second = Operand(Uniform(3, 0), weight, True), Operand(Uniform(3), x)
        LayerSearch(rounds)(first, second)
        errors.append((second.quantized() @ first.quantized().T - x @ weight.T).square().sum().item())
    assert errors[0] > errors[1] >= errors[2]


def searched(family: str, sample: Sample, **settings) -> tuple[nn.Module, UnitData]:
    method = AdaLog(**settings)
    job = Job(tiny(family), None, [], Bits(3, 3))
    student = quantize_model(copy.deepcopy(job.model), method.scheme(job))
    inputs = Activations(ActivationStore(2**30))
    inputs.append((images(4),))
    data = UnitData("all", student, inputs, inputs, inputs)
    search_unit(data, GRID, sample, torch.Generator().manual_seed(0))
    return student, data


@pytest.mark.parametrize("family", FAMILIES)
def test_a_searched_unit_is_on_everywhere_and_the_same_function_with_quantizers_off(family):
    student, _ = searched(family, Sample(4, 32, 1))
    for _, q in sites(student):
        assert q.mode == "on"
        assert q.granularity == ("channel" if q.site.operand == "weight" else "tensor")
    set_mode(student, "off")
    with torch.no_grad():
        torch.testing.assert_close(student(images()), tiny(family)(images()), rtol=1e-4, atol=1e-5)


def test_nothing_propagates():
    student, data = searched("vit", Sample(4))
    layer = student.get_submodule("blocks.1.mlp.fc2")
    seen = []
    set_mode(student, "off")
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(0, -2)))
    student(images(4))
    hook.remove()
    alone = Operand(AdaptiveLog(3, shifted=True), seen[0]), Operand(Uniform(3, 0), layer.weight.detach(), True)
    GRID(*alone)
    assert torch.equal(alone[0].quantizer.scale, layer.input_quantizer.scale)
    torch.testing.assert_close(alone[1].quantizer.scale, layer.weight_quantizer.scale)


def test_operands_by_head_have_a_range_a_head():
    student, _ = searched("vit", Sample(4), operands="head")
    heads = student.get_submodule("blocks.0.attn").num_heads
    shapes = {q.role: q.scale.shape for _, q in sites(student)}
    assert all(shapes[role] == (1, heads, 1, 1)[-len(shapes[role]):] for role in ("query", "key", "value"))
    assert shapes["post_softmax"] == (1,)
