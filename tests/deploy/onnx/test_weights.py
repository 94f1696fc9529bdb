"""How weights of all bits are stored, and that onnxruntime computes with them what torch does."""

from __future__ import annotations

from functools import cache

import onnx
import pytest
import torch
from torch import nn

from aiqvit.deploy.onnx.export import export_onnx
from aiqvit.quant.quantizers import Float, Half, Uniform
from tests.deploy.onnx.parts import Parts, layer
from tests.deploy.onnx.runtime import INTEGER, kernels, run, same

BITS = range(2, 9)


@cache
def tokens() -> torch.Tensor:
    return torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(1))


@cache
def model() -> Parts:
    """Every kind of weight, in front of integer products and of float ones."""
    parts = {}
    for bits in BITS:
        parts[f"channel{bits}"] = layer(nn.Linear(12, 7), weights=Uniform(bits, 0))
        parts[f"float{bits}"] = layer(nn.Linear(12, 7), Float(), Uniform(bits, 0))
    parts |= {"symmetric4": layer(nn.Linear(12, 7), weights=Uniform(4, 0, symmetric=True)),
              "symmetric8": layer(nn.Linear(12, 7), weights=Uniform(8, 0, symmetric=True)),
              "tensor8": layer(nn.Linear(12, 7), weights=Uniform(8)),
              "tensor3": layer(nn.Linear(12, 7), weights=Uniform(3)),
              "full": layer(nn.Linear(12, 7), weights=Float()),
              "half16": layer(nn.Linear(12, 7), Half(), Uniform(4, 0))}
    return Parts(tokens(), parts)


@pytest.fixture(scope="module", params=["ort", "openvino"])
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.onnx"
    return request.param, export_onnx(model(), path, tokens(), target=request.param)


def stored(path, name: str) -> str:
    """The type of a layer's codes."""
    tensor = next(t for t in onnx.load(path).graph.initializer if t.name == f"{name}.codes")
    return onnx.TensorProto.DataType.Name(tensor.data_type)


def test_all_weights_give_what_torch_gives(file):
    _, exported = file
    for name, given, expected in zip(model().names, run(exported.path, tokens()), model()(tokens()), strict=True):
        assert same(given, expected, flips=0.05, tolerance=1e-5), name  # a flipped input reaches all outputs of a token


def test_products_are_integer_unless_an_operand_is_float(file):
    _, exported = file
    integer = {name for name in model().names if not name.startswith(("float", "full", "half"))}
    assert {name for name, how in exported.products.items() if how == "integer"} == integer
    assert exported.products["float4"] == "float: float32 activations"
    assert exported.products["half16"] == "float: float16 activations"
    assert exported.products["full"] == "float: float weights"
    found = kernels(exported.path)
    assert sum(found[kind] for kind in INTEGER) == exported.matmuls == len(integer)
    assert found["MatMulNBits"] == 0  # would round the activations of weight-only layers to 8 bits


def test_four_bits_and_fewer_take_half_a_byte(file):
    target, exported = file
    for bits in BITS:
        wide = "UINT8" if target == "openvino" else "INT8"
        assert stored(exported.path, f"channel{bits}") == ("INT4" if bits <= 4 else "INT8" if bits < 8 else wide)
        assert stored(exported.path, f"float{bits}") == ("INT4" if bits <= 4 else "UINT8")
    assert stored(exported.path, "symmetric8") == "INT8"  # its zero point is 0, which is fast everywhere


def test_a_zero_point_of_zero_is_left_out(file):
    _, exported = file
    names = {tensor.name for tensor in onnx.load(exported.path).graph.initializer}
    assert "channel8.zero" in names
    assert not {"symmetric8.zero", "channel5.zero"} & names
