"""Finding one's way in an exported graph by the names of its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

ENDS = (":in", ":left", ":right", ":out")  # of the names of values
MOVES = {"Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"}  # nodes that change no value


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
            waiting += [name for name in node.input if not name.endswith(ENDS)]


def landing(model: ModelProto, value: str) -> str:
    """The layer whose input (`LAYER:in`) is a value, but for moves; empty where there is none or several read it."""
    while not value.endswith(":in"):
        readers = [node for node in model.graph.node if value in node.input]
        if len(readers) != 1 or readers[0].op_type not in MOVES:
            return ""
        value = readers[0].output[0]
    return value.removesuffix(":in")
