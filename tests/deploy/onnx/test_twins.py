"""Layers and products one by one: what onnxruntime computes of each is what torch does, on the kernels announced."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

from aiqvit.deploy.onnx.export import export_onnx
from aiqvit.interfaces import UserError
from aiqvit.quant import quantizers as q
from aiqvit.quant.layers import QuantMatMul, QuantWeightedSum
from aiqvit.quant.observers import MinMax
from aiqvit.quant.surgery import calibrate
from tests.deploy.onnx.parts import Parts, Products, layer
from tests.deploy.onnx.runtime import INTEGER, differing, kernels, run, same

FAR = {"observer": MinMax(), "include_zero": False}
LEFT = {"uniform": q.Uniform, "log": q.LogSqrt2, "affine": q.DynamicFocusing,
        "intzp": partial(q.DynamicFocusing, decoding="intzp"),
        "zero_low": partial(q.DynamicFocusing, decoding="zero_low"), "shift_log": q.ShiftUniformLog2,
        "adaptive_log": q.AdaptiveLog, "twin": q.TwinSoftmax}
MATMULS = {"zero_low": 2, "twin": 2, "log": 0, "shift_log": 0, "adaptive_log": 0}  # integer ones; else one


@cache
def pictures() -> Tensor:
    return torch.rand(3, 4, 9, 10, generator=torch.Generator().manual_seed(0)) + 2


@cache
def convolutions() -> Parts:
    conv = {
        "patches": nn.Conv2d(4, 6, 2, 2), "not_whole": nn.Conv2d(4, 6, (2, 4), (2, 4)), "pixels": nn.Conv2d(4, 6, 1),
        "overlap": nn.Conv2d(4, 6, 3, padding=1), "groups": nn.Conv2d(4, 8, 2, 2, groups=2),
        "reflect": nn.Conv2d(4, 6, 3, 2, padding=1, padding_mode="reflect"), "no_bias": nn.Conv2d(4, 6, 3, bias=False),
    }
    parts = {name: layer(source) for name, source in conv.items()}
    far = {"far": layer(nn.Conv2d(4, 6, 3, 3), q.Uniform(6, **FAR)),
           "far_padded": layer(nn.Conv2d(4, 6, 3, padding=1), q.Uniform(6, **FAR))}
    return Parts(pictures(), parts | far)


def test_convolutions(tmp_path):
    exported = export_onnx(convolutions(), tmp_path / "conv.onnx", pictures())
    outputs = run(exported.path, pictures())
    for name, given, expected in zip(convolutions().names, outputs, convolutions()(pictures()), strict=True):
        assert same(given, expected, flips=0.02, tolerance=1e-5), name
    integer = {"patches", "not_whole", "pixels", "far"}
    assert {name for name, how in exported.products.items() if how == "integer"} == integer
    assert exported.products["overlap"] == "float: a convolution whose kernels overlap"
    assert exported.products["groups"] == "float: a convolution in groups"
    assert exported.matmuls == sum(kernels(exported.path)[kind] for kind in INTEGER) == len(integer)


def test_weights_of_a_convolution_stay_what_they_are_between_two_quantizers(tmp_path):
    stem = nn.Sequential(layer(nn.Conv2d(4, 6, 3), weights=q.Uniform(4, 0)), nn.ReLU(), layer(nn.Conv2d(6, 6, 3)))
    calibrate(stem.requires_grad_(False), lambda model: model(pictures()))
    exported = export_onnx(stem, tmp_path / "stem.onnx", pictures())
    assert differing(stem, exported, pictures()) == []


def test_linear_layers(tmp_path):
    x = torch.rand(6, 12, generator=torch.Generator().manual_seed(0)) + 2
    parts = {"flat": layer(nn.Linear(12, 7)), "no_bias": layer(nn.Linear(12, 7, bias=False)),
             "far": layer(nn.Linear(12, 7), q.Uniform(8, **FAR)), "far_no_bias": layer(
                 nn.Linear(12, 7, bias=False), q.Uniform(3, **FAR)),
             "gelu": layer(nn.Linear(12, 7), q.TwinGelu(6)), "log": layer(nn.Linear(12, 7), q.Log2(8)),
             "branch": layer(nn.Linear(12, 7))}
    model = Parts(x, parts)
    model.branch.offset = torch.full((7, 12), 0.1)
    exported = export_onnx(model, tmp_path / "linear.onnx", x)
    for name, given, expected in zip(model.names, run(exported.path, x), model(x), strict=True):
        assert same(given, expected, flips=0.05, tolerance=1e-5), name
    assert exported.products == dict.fromkeys(model.names, "integer") | {
        "log": "float: log2 codes", "branch": "float: a branch in full precision beside it"}
    assert exported.matmuls == sum(kernels(exported.path)[kind] for kind in INTEGER) == 6  # the twin takes two


@cache
def scores() -> Tensor:
    return torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(0)) + 2


@cache
def products() -> Products:
    parts = {}
    for name, make in LEFT.items():
        parts[name] = QuantMatMul(make(6), q.Uniform(6))
        parts[f"{name}_far"] = QuantMatMul(make(6), q.Uniform(6, **FAR), transposed=True)
    model = Products(scores(), parts | {"half16": QuantMatMul(q.Half(), q.Uniform(6)),
                                        "sum": QuantWeightedSum(q.DynamicFocusing(6), q.Uniform(6, **FAR))})
    for module in model.modules():
        if isinstance(module, q.DynamicFocusing):
            module.b1.data.fill_(0.011)
    return model


@pytest.fixture(scope="module")
def product_file(tmp_path_factory):
    return export_onnx(products(), tmp_path_factory.mktemp("products") / "products.onnx", scores())


def test_products_give_what_torch_gives(product_file):
    outputs = run(product_file.path, scores())
    for name, given, expected in zip(products().names, outputs, products()(scores()), strict=True):
        assert same(given, expected, flips=0.05, tolerance=1e-5), name


def test_products_run_on_the_kernels_announced(product_file):
    for name, how in product_file.products.items():
        integer = MATMULS.get(name.removesuffix("_far"), 1) if name not in ("half16", "sum") else 0
        assert (how == "integer") == (integer > 0), name
    assert product_file.products["log"] == "float: log-sqrt2 codes"
    assert product_file.products["sum"] == "float: a sum element by element"
    expected = 2 * sum(MATMULS.get(name, 1) for name in LEFT)
    found = kernels(product_file.path)
    assert product_file.matmuls == sum(found[kind] for kind in INTEGER) == expected
    assert found["MatMul"] + found["FusedMatMul"] == 7  # each kind of log twice, half once


def test_a_layer_that_is_still_trained_is_refused(tmp_path):
    model = Parts(torch.rand(2, 12), {"fc": layer(nn.Linear(12, 7))})
    model.fc.compensation = lambda weight, quantizer: weight
    with pytest.raises(UserError, match="^fc: its compensation is still being trained"):
        export_onnx(model, tmp_path / "no.onnx", torch.rand(2, 12))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("weights", "why"), [(q.LogSqrt2(4), "log-sqrt2 codes"), (q.Uniform(4, 1), "range a head")])
def test_weights_without_a_form_are_refused(tmp_path, weights, why):
    model = Parts(torch.rand(2, 12), {"fc": layer(nn.Linear(12, 7), weights=weights)})
    weights.site = type(weights.site)("fc.weight_quantizer")
    with pytest.raises(UserError, match=f"^fc.weight_quantizer: .*{why}"):
        export_onnx(model, tmp_path / "no.onnx", torch.rand(2, 12))
