"""What stands in the file: names, shapes, metadata, and nothing else."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor, nn

from aiqvit import __version__
from aiqvit.deploy.onnx.export import export_fp32, export_onnx
from aiqvit.families.opening import quantize_model
from aiqvit.quant.surgery import calibrate
from tests.deploy.onnx.parts import layer
from tests.deploy.onnx.runtime import run
from tests.models import images, tiny, uniform

BLOCK = ("attn.qkv", "attn.qk", "attn.av", "attn.proj", "mlp.fc1", "mlp.fc2")
LAYERS = ["patch_embed.proj", *(f"blocks.{i}.{part}" for i in (0, 1) for part in BLOCK), "head"]


class Around(nn.Module):
    """Calls layers again, gives one value to two of them, and returns several outputs."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.first, self.second = layer(nn.Linear(8, 8)), layer(nn.Linear(8, 8))
        self.unused = layer(nn.Linear(8, 8))
        calibrate(self.requires_grad_(False), lambda model: (model(x), model.unused(x)))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        again = self.second(x)
        return {"once": self.first(x), "twice": self.second(again)}


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    net = quantize_model(tiny("vit"), uniform(4, 6))
    calibrate(net, lambda model: model(images()))
    path = tmp_path_factory.mktemp("graph") / "vit.onnx"
    return export_onnx(net, path, images(), properties={"method": "minmax"}), onnx.load(path)


@pytest.fixture(scope="module")
def around(tmp_path_factory):
    x = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    model = Around(x)
    return model, x, export_onnx(model, tmp_path_factory.mktemp("graph") / "around.onnx", x)


def names(model: onnx.ModelProto) -> list[str]:
    return [name for node in model.graph.node for name in node.output if ":" in name]


def shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_values_of_layers_and_products_have_their_names(vit):
    exported, model = vit
    assert sorted(exported.products) == sorted(LAYERS)
    ends = {name: ("left", "right", "out") if name.endswith((".qk", ".av")) else ("in", "out") for name in LAYERS}
    assert sorted(names(model)) == sorted(f"{name}:{end}" for name in LAYERS for end in ends[name])


def test_input_and_output_have_a_batch_of_any_size(vit):
    _, model = vit
    assert [(value.name, shape(value)) for value in model.graph.input] == [("input", ["batch", 3, 32, 32])]
    assert [(value.name, shape(value)) for value in model.graph.output] == [("output", ["batch", 7])]
    assert not model.graph.value_info  # onnxruntime is faster without


def test_metadata_is_ours_alone(vit):
    exported, model = vit
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "aiqvit.version": __version__, "method": "minmax"}
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [
        ("", 21), ("com.microsoft", 1)]
    assert exported.size == exported.path.stat().st_size
    assert not model.functions


def test_a_value_that_two_layers_read_has_both_names_and_a_second_call_a_number(around):
    model, x, exported = around
    file = onnx.load(exported.path)
    assert sorted(names(file)) == ["first:in", "first:out", "second:in", "second:in@2", "second:out", "second:out@2"]
    assert [value.name for value in file.graph.output] == ["output_0", "output_1"]
    for given, expected in zip(run(exported.path, x), model(x).values(), strict=True):
        torch.testing.assert_close(given, expected)


def test_the_file_of_the_same_model_is_the_same(around, tmp_path):
    model, x, exported = around
    assert export_onnx(model, tmp_path / "again.onnx", x).path.read_bytes() == exported.path.read_bytes()


def test_a_layer_that_is_never_called_is_said_so(around):
    _, _, exported = around
    assert exported.products == {"first": "integer", "second": "integer", "unused": "float: not reached by the example"}
    assert exported.matmuls == 3  # the second layer is called twice


def test_a_layer_that_is_never_called_needs_no_range(tmp_path):
    x = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    model = Around(x)
    model.unused.input_quantizer.mode = "off"
    exported = export_onnx(model, tmp_path / "around.onnx", x)
    assert exported.products["unused"] == "float: not reached by the example"
    for given, expected in zip(run(exported.path, x), model(x).values(), strict=True):
        torch.testing.assert_close(given, expected)


def test_a_float_model_is_exported_as_it_is(tmp_path):
    path = export_fp32(tiny("vit"), tmp_path / "float.onnx", images())
    with torch.no_grad():
        torch.testing.assert_close(run(path, images(3))[0], tiny("vit")(images(3)), rtol=1e-4, atol=1e-5)
    assert shape(onnx.load(path).graph.input[0])[0] == "batch"


class Same(nn.Module):
    """Returns its input, and one value twice."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        output = 2 * x
        return x, output, output


def test_outputs_that_are_one_value_or_the_input_stay_apart(tmp_path):
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    path = export_fp32(Same(), tmp_path / "same.onnx", x)
    file = onnx.load(path)
    assert [value.name for value in file.graph.input] == ["input"]
    assert [value.name for value in file.graph.output] == ["output_0", "output_1", "output_2"]
    assert all(map(torch.equal, run(path, x), Same()(x)))
