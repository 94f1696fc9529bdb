"""A small quantized network and its ONNX file written node by node: what the proof reads, without the exporter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from aiqvit.quant.products import MatMul
from aiqvit.quant.quantizers import Quantizer
from aiqvit.quant.surgery import calibrate, place_quantizers
from tests.models import uniform

LAYERS = ("fc1", "fc2", "qk", "av", "proj")
PROMISED = dict.fromkeys(LAYERS, "integer")


class Attention(nn.Module):
    """Tokens (B, 6, 16) to logits (B, 5): a small feed-forward network and an attention of one head."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.proj = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 5)
        self.qk, self.av = MatMul("query", "key", transposed=True), MatMul("post_softmax", "value")

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc2(nn.functional.gelu(self.fc1(x)))
        return self.proj(self.av(self.qk(y, y).softmax(-1), y)).mean(1)


def tokens(count: int = 16) -> Tensor:
    return torch.randn(count, 6, 16, generator=torch.Generator().manual_seed(1))


def network(bits: int = 8) -> nn.Module:
    """The network with random weights, quantized."""
    torch.manual_seed(0)
    net = place_quantizers(Attention(), uniform(bits, bits))
    calibrate(net, lambda model: model(tokens()))
    return net


class Writer:
    """Nodes and initializers of a graph, one after another."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.nodes, self.constants = net, [], []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"node_{len(self.nodes)}", **attributes))
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def quantized(self, value: str, name: str, quantizer: Quantizer) -> str:
        """A value behind QuantizeLinear and DequantizeLinear."""
        scale = self.constant(f"{name}.scale", np.float32(quantizer.scale.item()))
        zero = self.constant(f"{name}.zero", np.uint8(quantizer.zero.item()))
        codes = self.node("QuantizeLinear", [value, scale, zero], f"{name}.codes")
        return self.node("DequantizeLinear", [codes, scale, zero], f"{name}.values")

    def layer(self, value: str, name: str) -> str:
        """A QuantLinear with int8 weights."""
        layer = self.net.get_submodule(name)
        weights = layer.weight_quantizer
        self.node("Identity", [value], f"{name}:in")
        x = self.quantized(f"{name}:in", f"{name}.x", layer.input_quantizer)
        codes = (weights.encode(layer.weight).T - 128).numpy().astype(np.int8)
        parts = [self.constant(f"{name}.codes", codes),
                 self.constant(f"{name}.scale", weights.scale.detach().flatten().numpy()),
                 self.constant(f"{name}.zero", (weights.zero.flatten() - 128).numpy().astype(np.int8))]
        w = self.node("DequantizeLinear", parts, f"{name}.weight", axis=1)
        product = self.node("MatMul", [x, w], f"{name}.product")
        return self.node("Add", [product, self.constant(f"{name}.bias", layer.bias.detach().numpy())], f"{name}:out")

    def product(self, left: str, right: str, name: str) -> str:
        """A QuantMatMul."""
        module = self.net.get_submodule(name)
        self.node("Identity", [left], f"{name}:left")
        self.node("Identity", [right], f"{name}:right")
        a = self.quantized(f"{name}:left", f"{name}.a", module.left_quantizer)
        b = self.quantized(f"{name}:right", f"{name}.b", module.right_quantizer)
        if module.transposed:
            b = self.node("Transpose", [b], f"{name}.turned", perm=[0, 2, 1])
        return self.node("MatMul", [a, b], f"{name}:out")


def export(net: nn.Module, path: Path) -> Path:
    """Write the file of `network`."""
    graph = Writer(net)
    hidden = graph.node("Gelu", [graph.layer("input", "fc1")], "hidden")
    y = graph.layer(hidden, "fc2")
    weights = graph.node("Softmax", [graph.product(y, y, "qk")], "weights", axis=-1)
    z = graph.node("Identity", [graph.product(weights, y, "av")], "mixed")
    logits = graph.layer(z, "proj")
    graph.node("ReduceMean", [logits, graph.constant("tokens", np.array([1]))], "output", keepdims=0)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in (("input", [6, 16]), ("output", [5]))]
    made = helper.make_graph(graph.nodes, "handmade", ends[:1], ends[1:], graph.constants)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """An initializer by its name."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def change(path: Path, name: str, position: tuple[int, ...], by: int) -> Path:
    """Write a copy in which one element of an initializer differs; returns where it is."""
    model = onnx.load(path)
    tensor = constant(model, name)
    values = numpy_helper.to_array(tensor).copy()
    values[position] += by
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    changed = path.with_name("changed.onnx")
    onnx.save(model, changed)
    return changed
