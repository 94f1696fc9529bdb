"""Every family on small random networks: the same function when opened, all of it reached, and a true anatomy."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from aiqvit.families.family import GELUS, foldable
from aiqvit.families.opening import check, open_model, quantize_model
from aiqvit.quant.anatomy import activations, described, norm_readers, under, units_of
from aiqvit.quant.card import sites
from aiqvit.quant.observers import MinMax
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.site import by_role, spec
from aiqvit.quant.state import load_state, saved_state
from aiqvit.quant.surgery import calibrate, model_sites, set_mode
from aiqvit.transforms.reparam import reparameterize
from tests.families.networks import NETWORKS, build, images

X = images().double()
PER_CHANNEL = by_role({"default": spec(Uniform, 8, 0, MinMax())},
                      {"default": spec(Uniform, 8, None, MinMax()),
                       "post_layernorm": spec(Uniform, 8, -1, MinMax(), include_zero=False)})


@pytest.fixture(params=NETWORKS)
def name(request):
    with torch.no_grad():
        yield request.param


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def fold(norm: nn.LayerNorm, layers: list[nn.Linear], seed: int = 0) -> None:
    """Scale and shift each channel behind the norm at random, and undo it in the layers."""
    draw = torch.Generator().manual_seed(seed)
    C = norm.weight.numel()
    scale, shift = torch.rand(C, generator=draw).double() + 0.5, torch.randn(C, generator=draw).double()
    norm.weight.data, norm.bias.data = norm.weight * scale, norm.bias * scale + shift
    for layer in layers:
        bias = 0 if layer.bias is None else layer.bias
        layer.bias = nn.Parameter(bias - layer.weight @ (shift / scale))
        layer.weight = nn.Parameter(layer.weight / scale)


def traced(model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """First input and output of every module in one pass, in the order in which modules start."""
    inputs, outputs = {}, {}
    names = {module: name for name, module in model.named_modules()}

    def start(module: nn.Module, args: tuple) -> None:
        inputs.setdefault(names[module], args[0] if args else None)

    def end(module: nn.Module, args: tuple, y: torch.Tensor) -> None:
        outputs.setdefault(names[module], y)

    for module in names:
        module.register_forward_pre_hook(start)
        module.register_forward_hook(end)
    model(X)
    return inputs, outputs


def test_opening_keeps_the_output_and_is_done_once(name):
    model = build(name)
    x = images()
    expected = model(x)
    opened = open_model(deepcopy(model))
    assert error(opened(x), expected) < 1e-5
    modules = {key: id(module) for key, module in opened.named_modules()}
    assert modules == {key: id(module) for key, module in open_model(opened).named_modules()}
    model = model.double()
    assert error(open_model(deepcopy(model))(X), model(X)) < 1e-10


def test_every_multiplication_is_reached(name):
    found = check(build(name), lambda model: model(images()), name)
    assert found.quantized >= 0.99
    assert found.missed < 1e-6


def test_reparameterization_keeps_the_function_and_leaves_no_range_per_channel(name):
    model = build(name).double()
    expected = model(X)
    quantized = quantize_model(deepcopy(model), PER_CHANNEL)
    calibrate(quantized, lambda m: m(X))
    assert error(quantized(X), expected) < 0.2  # a random network may amplify the errors of its first layers
    reparameterize(quantized)
    assert error(quantized(X), expected) < 0.2
    set_mode(quantized, "off")
    assert error(quantized(X), expected) < 1e-10
    assert {q.axis for _, q in sites(quantized) if q.site.operand == "activation"} == {None}


def test_its_state_loads_into_a_network_of_other_weights(name):
    x = images()
    quantized = quantize_model(build(name), PER_CHANNEL)
    calibrate(quantized, lambda m: m(x))
    reparameterize(quantized)
    other = quantize_model(NETWORKS[name](), PER_CHANNEL)
    load_state(other, saved_state(quantized))
    assert torch.equal(other(x), quantized(x))


def test_norms_feed_what_is_said_and_nothing_else(name):
    model = open_model(build(name).double())
    expected = model(X)
    for norm, layers in norm_readers(model):
        other = deepcopy(model)
        fold(other.get_submodule(norm), [other.get_submodule(layer) for layer in layers])
        assert error(other(X), expected) < 1e-10, (norm, layers)


def test_no_norm_that_could_be_folded_is_left_out(name):
    model = open_model(build(name).double())
    inputs, outputs = traced(deepcopy(model))
    expected, known = model(X), dict(norm_readers(model))
    for norm, module in model.named_modules():
        if not foldable(module):
            continue
        readers = [layer for layer, m in model.named_modules() if isinstance(m, nn.Linear)
                   and inputs.get(layer) is not None and inputs[layer] is outputs[norm]]
        assert set(readers) <= set(known.get(norm, readers))
        if readers and norm not in known:
            other = deepcopy(model)
            fold(other.get_submodule(norm), [other.get_submodule(layer) for layer in readers])
            assert error(other(X), expected) > 1e-3, (norm, readers)


def test_layer_scales_scale_what_is_said(name):
    model = open_model(build(name).double())
    expected = model(X)
    behind: dict[str, list[str]] = {}
    for prefix, _, anatomy in described(model):
        for layer, scale in anatomy.scales.items():
            behind.setdefault(under(prefix, scale), []).append(under(prefix, layer))
    assert set(behind) == {n for n, _ in model.named_parameters() if "gamma" in n.rpartition(".")[2]}
    for scale, layers in behind.items():
        other = deepcopy(model)
        other.get_parameter(scale).mul_(2)
        for layer in layers:
            for p in other.get_submodule(layer).parameters():
                p.div_(2)
        assert error(other(X), expected) < 1e-10, scale


def test_without_its_writers_a_block_gives_what_it_gets(name):
    model = open_model(build(name).double())
    units = units_of(model)
    for prefix, _, anatomy in list(described(model)):
        for writer in anatomy.residual:
            model.get_submodule(under(prefix, writer)).register_forward_hook(lambda m, args, y: torch.zeros_like(y))
    seen = []

    def compare(module: nn.Module, args: tuple, y: torch.Tensor) -> None:
        alike = [x for x in args if x.shape == y.shape]
        assert not alike or any(torch.equal(x, y) for x in alike)
        seen.append(bool(alike))

    for unit in units:
        model.get_submodule(unit).register_forward_hook(compare)
    model(X)
    blocks = [u for u in units if "block" in u or "encoder_layer" in u or u[:8] == "features" and u.count(".") == 2]
    assert sum(seen) == len(blocks)


def test_activation_functions_stand_where_they_are_said_to(name):
    model = open_model(build(name).double())
    inputs, outputs = traced(model)
    made = {y.data_ptr(): GELUS.get(type(m).__name__.lower(), type(m).__name__.lower())
            for key, m in model.named_modules() if "activation" in type(m).__module__
            and (y := outputs.get(key)) is not None}
    layers = {key: x for key, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
              and (x := inputs.get(key)) is not None}
    assert activations(model) == {key: made[x.data_ptr()] for key, x in layers.items() if x.data_ptr() in made}
    for key, (first, _) in model_sites(model).items():
        assert (first.role == "post_gelu") == (activations(model).get(key) == "gelu")


def test_units_follow_one_another_and_hold_every_layer(name):
    model = open_model(build(name).double())
    units = units_of(model)
    assert not any(other.startswith(f"{unit}.") for unit in units for other in units)
    inputs, _ = traced(model)
    assert tuple(key for key in inputs if key in units) == units
    assert [key for key in model_sites(model) if not any(key == u or key.startswith(f"{u}.") for u in units)] == []
