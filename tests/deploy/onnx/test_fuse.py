"""The form that onnxruntime runs fastest computes the same as the plain one, under the same names."""

from __future__ import annotations

from types import SimpleNamespace

import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper

from aiqvit.deploy.onnx.export import export_onnx
from aiqvit.deploy.onnx.fuse import fuse
from aiqvit.deploy.proof.kernels import count_kernels
from aiqvit.deploy.proof.runtime import run, session
from tests.test_contract import data, quantized

MODEL = "mini_vit"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """RepQ-ViT at 4/6 in `plain` form, as it is written for OpenVINO, and `fused`; `products` as promised."""
    folder = tmp_path_factory.mktemp("fuse")
    exported = export_onnx(quantized("repqvit", MODEL, "4/6"), folder / "plain.onnx", data(MODEL)[:1],
                           target="openvino")
    model = ir.load(exported.path)
    fuse(model)
    ir.save(model, folder / "fused.onnx")
    return SimpleNamespace(plain=exported.path, fused=folder / "fused.onnx", products=exported.products)


def named(path):
    return {name for node in onnx.load(path).graph.node for name in node.output if ":" in name}


def nodes(path, kind):
    return [node for node in onnx.load(path).graph.node if node.op_type == kind]


def test_outputs_are_the_same(files):
    onnx.checker.check_model(files.fused)
    (plain,), (fused,) = (run(session(path), data(MODEL)) for path in (files.plain, files.fused))
    assert torch.equal(plain.argmax(-1), fused.argmax(-1)) and (plain - fused).norm() < 0.02 * plain.norm()


def test_names_and_promises_stay(files):
    assert named(files.fused) == named(files.plain)
    found = count_kernels(files.fused, files.products)
    assert found.missed == [] and found.integer == list(files.products.values()).count("integer")


def test_every_layer_has_its_bias_inside(files):
    products = nodes(files.fused, "MatMulIntegerToFloat")
    layers = {node.output[0]: len(node.input) for node in products if not node.output[0].endswith(("qk:out", "av:out"))}
    assert layers and set(layers.values()) == {7}
    assert len(nodes(files.plain, "Add")) - len(nodes(files.fused, "Add")) == len(layers)


def test_right_operands_are_int8_and_bytes_are_moved(files):
    graph = onnx.load(files.fused).graph
    made_by = {name: node for node in graph.node for name in node.output}
    zeros = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in nodes(files.fused, "MatMulIntegerToFloat"):
        if not node.output[0].endswith("qk:out"):
            continue
        assert [str(zeros[name].dtype) for name in node.input[4:6]] == ["uint8", "int8"]
        for value in node.input[:2]:
            moves = []
            while (maker := made_by[value]).op_type != "QuantizeLinear":
                moves.append(maker.op_type)
                value = maker.input[0]
            assert {"Transpose", "Reshape", "Clip"} <= set(moves)
            assert made_by[maker.input[0]].op_type == "Split"


def test_no_logarithm_is_taken_of_a_softmax(files):
    assert not nodes(files.plain, "Log") and not nodes(files.plain, "Softmax")
    assert len(nodes(files.plain, "LogSoftmax")) == sum("log-sqrt2" in why for why in files.products.values())
