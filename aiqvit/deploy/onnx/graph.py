"""What is done to the exporter's graph: values get their names, and what nobody reads is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiqvit.deploy.onnx.ops import DOMAIN

if TYPE_CHECKING:
    import onnx_ir as ir

BATCH = "batch"


def name_values(model: ir.Model) -> set[str]:
    """Remove every `Tap` (see `aiqvit.deploy.onnx.ops`), whose input gets its name; the layers and products named.

    A value that has a name already, such as an input of the graph, is passed on under the second one by an Identity.
    """
    import onnx_ir as ir

    graph, used, named = model.graph, set(), set()
    for node in [node for node in graph if node.op_type == "Tap"]:
        value, output, name = node.inputs[0], node.outputs[0], node.attributes["name"].as_string()
        named.add(name.rpartition(":")[0])
        if value.producer() is None or value.name in used:
            value = _identity(graph, node, value)
        value.name = _unused(name, used)
        used.add(value.name)
        if output.is_graph_output():  # its name is fixed
            last = _identity(graph, node, value)
            last.name = output.name
            graph.outputs[graph.outputs.index(output)] = last
        ir.convenience.replace_all_uses_with(output, value)
        graph.remove(node, safe=True)
    return named


def keep_float_weights(model: ir.Model) -> None:
    """Decode the inputs of convolutions by arithmetic.

    Where a convolution stands between DequantizeLinear and QuantizeLinear, onnxruntime quantizes its weights anew.
    """
    import onnx_ir as ir

    def add(kind: str, before: ir.Node, *inputs: ir.Value, **attributes: int) -> ir.Value:
        node = ir.node(kind, inputs, attributes or None)
        model.graph.insert_before(before, node)
        return node.outputs[0]

    for node in [node for node in model.graph if node.op_type == "Conv"]:
        decoding = node.inputs[0].producer()
        if decoding is None or decoding.op_type != "DequantizeLinear":
            continue
        codes, scale, zero = decoding.inputs
        codes, zero = (add("Cast", node, value, to=ir.DataType.FLOAT) for value in (codes, zero))
        node.replace_input_with(0, add("Mul", node, add("Sub", node, codes, zero), scale))


def integer_products(model: ir.Model) -> int:
    """How many products have two operands that are read from integers."""
    def reads(value: ir.Value) -> bool:
        while (node := value.producer()) is not None and node.op_type in ("Transpose", "Reshape", "Identity"):
            value = node.inputs[0]
        return node is not None and node.op_type == "DequantizeLinear"

    return sum(node.op_type == "MatMul" and all(map(reads, node.inputs)) for node in model.graph)


def _unused(name: str, used: set[str]) -> str:  # a layer that is called again
    turn = 2
    while (numbered := name if turn == 2 and name not in used else f"{name}@{turn}") in used:
        turn += 1
    return numbered


def _identity(graph: ir.Graph, before: ir.Node, value: ir.Value) -> ir.Value:
    import onnx_ir as ir

    node = ir.node("Identity", [value])
    node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    graph.insert_before(before, node)
    return node.outputs[0]


def clean(model: ir.Model, properties: Mapping[str, str]) -> None:
    """Keep what a runtime and a reader need: no traces of the exporter, shapes of inputs and outputs alone.

    Others cost time: onnxruntime lays out memory by the shapes it is told, and worse than without.
    """
    import onnx_ir as ir
    import onnx_ir.passes.common as common

    ir.passes.Sequential(common.RemoveUnusedNodesPass(), common.RemoveUnusedOpsetsPass())(model)
    model.opset_imports.pop(DOMAIN, None)
    model.graph.opset_imports.pop(DOMAIN, None)
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.type = value.shape = None
    for value in model.graph.inputs:
        value.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
        value.type = value.shape = None  # the tensor has them
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props.update(properties)


def name_batch(model: ir.Model) -> None:
    """Call the symbol of the first dimension `batch`, wherever a shape has it."""
    import onnx_ir as ir

    symbol = model.graph.inputs[0].shape[0].value
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(dim, symbol) for dim in value.shape])


def _renamed(dim: int | ir.SymbolicDim, symbol: str) -> int | str | None:
    if isinstance(dim, int):
        return dim
    return dim.value and str(dim.value).replace(symbol, BATCH)
