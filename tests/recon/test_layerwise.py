"""Gram matrices of layers' inputs against explicit sums on both paths."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from aiqvit.families.opening import quantize_model
from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantConv2d
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.surgery import calibrate, quant_layers, set_mode
from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.layerwise import input_grams, network_grams, rows_of
from aiqvit.recon.walk import walk
from tests.models import FAMILIES, images, tiny, uniform, units


def inputs_of(unit, name, args, kwargs):
    """What stands in front of a layer's product, behind its input quantizer."""
    seen = []
    layer = unit.get_submodule(name)
    hook = layer.input_quantizer.register_forward_hook(lambda _, __, y: seen.append(y.flatten(0, -2)))
    with torch.no_grad():
        unit(*args, **kwargs)
    hook.remove()
    return torch.cat(seen)


@pytest.mark.parametrize("family", FAMILIES)
def test_sums_over_all_samples_on_both_paths(family):
    teacher, batches = tiny(family), [images(4, 0), images(3, 1)]
    student = quantize_model(copy.deepcopy(teacher), uniform(3, 3))
    calibrate(student, lambda m: m(batches[0]))
    data = list(walk(student, teacher, units(family), batches, lambda m, x: m(x), ActivationStore(2**30)))[2]
    grams = input_grams(data)
    assert set(grams) == set(dict(quant_layers(data.unit)))
    plain = copy.deepcopy(data.unit)
    set_mode(plain, "off")
    for name, gram in grams.items():
        parts = zip(data.inputs.calls(), data.fp_inputs.calls(), strict=True)
        pairs = [(inputs_of(data.unit, name, *q), inputs_of(plain, name, *f)) for q, f in parts]
        x_hat, x = (torch.cat(side).double() for side in zip(*pairs, strict=True))
        assert gram.rows == len(x)
        for found, wanted in ((gram.quantized, x_hat.T @ x_hat), (gram.mixed, x_hat.T @ x)):
            torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("settings", ({}, {"stride": 2, "padding": 1}, {"dilation": 2}))
def test_rows_in_front_of_a_convolution_are_its_patches(settings):
    torch.manual_seed(0)
    layer = QuantConv2d(nn.Conv2d(3, 5, 3, **settings), Uniform(8), Uniform(8, 0))
    x = torch.randn(2, 3, 9, 9)
    rows = rows_of(layer, x)
    explicit = conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation).flatten(2).transpose(1, 2)
    torch.testing.assert_close(rows @ layer.weight.flatten(1).T, explicit.flatten(0, 1))


def test_grouped_convolutions_are_refused():
    layer = QuantConv2d(nn.Conv2d(4, 4, 3, groups=2), Uniform(8), Uniform(8, 0))
    with pytest.raises(ValueError, match="grouped"):
        rows_of(layer, torch.randn(1, 4, 5, 5))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_in_full_precision_has_for_each_layer_the_sums_of_its_own_quantizer(family):
    model, batches = quantize_model(tiny(family), uniform(3, 3)), [images(4, 0), images(3, 1)]
    calibrate(model, lambda m: m(batches[0]), weights=False)
    modes = [quantizer.mode for _, quantizer in sites(model)]
    grams = network_grams(model, batches, lambda m, x: m(x))
    assert [quantizer.mode for _, quantizer in sites(model)] == modes
    plain = copy.deepcopy(model)
    set_mode(plain, "off")
    for name, gram in grams.items():
        layer, seen = model.get_submodule(name), []
        hook = plain.get_submodule(name).register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            for batch in batches:
                plain(batch)
            q, x = (torch.cat([rows_of(layer, code(t)) for t in seen]).double() for code in
                    (layer.input_quantizer, torch.clone))
        hook.remove()
        q, x = (torch.cat([t, torch.ones(len(t), 1, dtype=t.dtype)], dim=1) for t in (q, x))
        assert gram.rows == len(x)
        torch.testing.assert_close(gram.quantized.double(), q.T @ q, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(gram.mixed.double(), q.T @ x, rtol=1e-4, atol=1e-3)
    assert set(grams) == set(dict(quant_layers(model)))


def test_grouped_convolutions_and_layers_not_reached_have_no_sums():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.grouped, self.last, self.unused = nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 1), nn.Linear(2, 2)

        def forward(self, x):
            return self.last(self.grouped(x))

    model = quantize_model(Net(), uniform())
    assert set(network_grams(model, [torch.randn(2, 4, 8, 8)], lambda m, x: m(x))) == {"last"}
