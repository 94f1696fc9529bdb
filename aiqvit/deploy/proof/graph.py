"""Finding one's way in an exported graph by the names of its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

ENDS = (":in", ":left", ":right", ":out")  # of the names of values
MOVES = {"Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"}  # nodes that change no value
PASSING = MOVES | {"Slice"}  # through these onnxruntime brings a quantizer forward, to the product in front
SCALES = {"MatMulIntegerToFloat": (2, 3), "DequantizeLinear": (1,)}  # inputs of a node that scale its first ones


def value_names(graph: GraphProto) -> set[str]:
    """Names of all values that nodes make, and of the inputs."""
    return {name for node in graph.node for name in node.output} | {value.name for value in graph.input}


def between(layer: str, made_by: Mapping[str, NodeProto], kinds: set[str]) -> Iterator[NodeProto]:
    """Nodes of these kinds in front of a layer's output, up to the nearest of them or of other named values."""
    waiting, seen = [f"{layer}:out"], set()
    while waiting:
        value = waiting.pop()
        node = made_by.get(value)
        if node is None or value in seen:
            continue
        seen.add(value)
        if node.op_type in kinds:
            yield node
        else:
            waiting += [name for name in node.input if not name.partition("@")[0].endswith(ENDS)]


def landing(model: ModelProto, value: str) -> str:
    """The layer whose input (`LAYER:in`) is a value, but for moves and cuts; empty for none and where several read it."""
    while not value.endswith(":in"):
        readers = [node for node in model.graph.node if value in node.input]
        if len(readers) != 1 or readers[0].op_type not in PASSING:
            return ""
        value = readers[0].output[0]
    return value.removesuffix(":in")


def as_float(model: ModelProto, value: str) -> str:
    """The operand that a name stands for: the value itself, or what nodes make of it that are added to the graph.

    A name of codes, whose quantizer stands in front of moves, stands for the same moves of what the quantizer gets,
    times what its scale is less than the one that the codes are read with. That of a logarithm stands for its power.
    """
    from onnx import helper

    made_by = {output: node for node in model.graph.node for output in node.output}
    moves, node = [], made_by.get(value)
    if node is not None and node.op_type == "LogSoftmax":
        model.graph.node.append(helper.make_node("Exp", [value], [f"{value}.float"]))
        return f"{value}.float"
    while node is not None and node.op_type in (*MOVES, "Clip"):
        moves += [node] if node.op_type in MOVES else []
        node = made_by.get(node.input[0])
    if node is None or node.op_type != "QuantizeLinear":
        return value
    return _moved(model, value, node, moves[::-1])


def _moved(model: ModelProto, value: str, quantizer: NodeProto, moves: Sequence[NodeProto]) -> str:
    """Moves of what a quantizer gets; returns the name of the result."""
    import onnx
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    own, read = (numpy_helper.to_array(constants[name]) for name in (quantizer.input[1], _read_scale(model, value)))
    gain = numpy_helper.from_array((read / own).reshape(()).astype("float32"), f"{value}.gain")
    current = quantizer.input[0]
    for number, move in enumerate(moves):
        copy = onnx.NodeProto()
        copy.CopyFrom(move)
        copy.name, copy.input[0], copy.output[0] = "", current, f"{value}.moved{number}"
        model.graph.node.append(copy)
        current = copy.output[0]
    model.graph.initializer.append(gain)
    model.graph.node.append(helper.make_node("Mul", [current, gain.name], [f"{value}.float"]))
    return f"{value}.float"


def _read_scale(model: ModelProto, value: str) -> str:
    """The name of the scale with which the codes of a value are read, behind further moves of them."""
    while True:
        node = next(node for node in model.graph.node if value in node.input)
        if node.op_type in SCALES:
            return node.input[SCALES[node.op_type][list(node.input).index(value)]]
        value = node.output[0]
