"""A graph in QDQ form becomes the one that onnxruntime runs fastest: what it would not do itself when it loads a file.

Products are written as its MatMulIntegerToFloat (domain com.microsoft, in every build), because its own fusion of QDQ
leaves biases outside, and takes right operands that are activations as uint8, for which its kernels are slower than for
int8. Quantizers go in front of the moves that split heads, so that bytes are moved instead of floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

CONTRIB = "com.microsoft"
MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze")
HEADS = [2, 0, 3, 1, 4]  # (B, N, parts, H, D) to (parts, B, H, N, D)


def fuse(model: ir.Model) -> None:
    """Rewrite the products of a model in place; values keep their names.

    Where a quantizer goes in front of moves, `PRODUCT:left` and `PRODUCT:right` become names of its codes.
    """
    import onnx_ir.passes.common as common

    graph = model.graph
    steps = {"Transpose": _split_in_front, "DequantizeLinear": _quantize_in_front, "MatMul": _fuse_product}
    for kind, step in steps.items():
        for node in [node for node in graph if node.op_type == kind]:
            step(graph, node)
    common.RemoveUnusedNodesPass()(model)
    if any(node.domain == CONTRIB for node in graph):
        graph.opset_imports[CONTRIB] = 1


def _split_in_front(graph: ir.Graph, turned: ir.Node) -> None:
    """Reshape, Transpose and a Slice a part become a Split of the features, and a Reshape and Transpose a part."""
    import onnx_ir as ir

    shaped = turned.inputs[0].producer()
    if not (shaped and shaped.op_type == "Reshape" and list(turned.attributes["perm"].as_ints()) == HEADS):
        return
    slices = turned.outputs[0].consumers()
    squeezes = [_reader(node.outputs[0], "Squeeze") for node in slices if node.op_type == "Slice"]
    if len(squeezes) != len(slices) or None in squeezes:
        return
    if any(value.const_value is None for value in (shaped.inputs[1], *(node.inputs[1] for node in slices))):
        return
    shape = _array(shaped.inputs[1])  # of (B, N, parts, H, D)
    parts = int(shape[2])
    split = ir.node("Split", [shaped.inputs[0]], {"axis": -1, "num_outputs": parts}, num_outputs=parts)
    graph.insert_before(turned, split)
    each = _constant(graph, np.delete(shape, 2))
    for part, squeeze in zip(slices, squeezes, strict=True):
        heads = ir.node("Reshape", [split.outputs[_array(part.inputs[1]).item()], each])
        moved = ir.node("Transpose", heads.outputs, {"perm": [0, 2, 1, 3]})
        graph.insert_before(squeeze, [heads, moved])
        _take_over(graph, squeeze, moved)


def _quantize_in_front(graph: ir.Graph, read: ir.Node) -> None:
    """Move, QuantizeLinear, DequantizeLinear: the codes move in place of the values; a factor goes into the scale."""
    import onnx_ir as ir

    clip = _maker(read.inputs[0], "Clip")
    quantize = _maker(clip.inputs[0] if clip else read.inputs[0], "QuantizeLinear")
    moves, value, gain = _moves(quantize.inputs[0]) if quantize else ([], None, 1.0)
    if not any(node.op_type in MOVES for node in moves):
        return
    scale = quantize.inputs[1] if gain == 1 else _constant(graph, _array(quantize.inputs[1]) / np.float32(gain))
    codes = _after(graph, quantize, ir.node("QuantizeLinear", [value, scale, quantize.inputs[2]]))
    if clip:
        codes = _after(graph, quantize, ir.node("Clip", [codes, *clip.inputs[1:]]))
    for node in moves:
        if node.op_type in MOVES:
            codes = _after(graph, quantize, ir.node(node.op_type, [codes, *node.inputs[1:]], node.attributes))
        if ":" in node.outputs[0].name:
            codes.name, node.outputs[0].name = node.outputs[0].name, None
    read.replace_input_with(0, codes)


def _moves(value: ir.Value) -> tuple[list[ir.Node], ir.Value, float]:
    """Moves and multiplications by a constant that end in a value, what goes into the first one, and their factor.

    None beyond the input of a layer, or a value that somebody else reads.
    """
    moves, gain = [], 1.0
    while len(value.uses()) == 1 and not value.name.endswith(":in") and (node := value.producer()) is not None:
        factor = node.inputs[-1].const_value if node.op_type == "Mul" else None
        if node.op_type not in MOVES and (factor is None or factor.size != 1):
            break
        gain *= 1.0 if factor is None else factor.numpy().item()
        moves.insert(0, node)
        value = node.inputs[0]
    return (moves, value, gain) if gain > 0 else ([], value, 1.0)


def _fuse_product(graph: ir.Graph, product: ir.Node) -> None:
    """DequantizeLinear twice, MatMul, Add of a bias: one node that has all of it."""
    import onnx_ir as ir

    left, right = (_maker(value, "DequantizeLinear", shared=True) for value in product.inputs)
    if left is None or right is None:
        return
    _make_signed(graph, right)
    zeros = [node.inputs[2] if len(node.inputs) > 2 else None for node in (left, right)]
    if zeros[1] is None:
        zeros[1] = _constant(graph, np.zeros_like(_array(right.inputs[1]), np.int8))
    inputs = [left.inputs[0], right.inputs[0], left.inputs[1], right.inputs[1], *zeros]
    added = None if ":" in product.outputs[0].name else _bias(product.outputs[0])
    if added is not None:
        inputs.append(added.inputs[1])
    new = ir.node("MatMulIntegerToFloat", inputs, domain=CONTRIB, name=product.name)
    graph.insert_before(product, new)
    _take_over(graph, product, new)
    if added is not None:
        if (total := added.inputs[0].producer()) is not new:  # the sum of two products has the bias of one of them
            total.outputs[0].name = None
        _take_over(graph, added, added.inputs[0].producer())


def _bias(value: ir.Value) -> ir.Node | None:
    """The Add of a constant (features,) that alone reads a product, or the sum of this one and another."""
    node = _reader(value, "Add")
    if node is not None and node.inputs[1].const_value is None and ":" not in node.outputs[0].name:
        node = _reader(node.outputs[0], "Add")
    return node if node is not None and len(getattr(node.inputs[1].const_value, "shape", ())) == 1 else None


def _make_signed(graph: ir.Graph, read: ir.Node) -> None:
    """Int8 instead of uint8 codes of an activation, all of them 128 less."""
    import onnx_ir as ir

    value, clips = read.inputs[0], []
    while (node := value.producer()) is not None and len(value.uses()) == 1 and node.op_type in (*MOVES, "Clip"):
        clips += [node] if node.op_type == "Clip" else []
        value = node.inputs[0]
    if node is None or node.op_type != "QuantizeLinear" or len(value.uses()) != 1 or len(node.inputs) < 3:
        return
    if _array(node.inputs[2]).dtype != np.uint8:
        return
    for reader, places in ((node, [2]), (read, [2]), *((clip, [1, 2]) for clip in clips)):
        for place in places:
            less = _array(reader.inputs[place]).astype(np.int16) - 128
            reader.replace_input_with(place, _constant(graph, less.astype(np.int8)))
    node.outputs[0].dtype = ir.DataType.INT8


def _maker(value: ir.Value, kind: str, shared: bool = False) -> ir.Node | None:
    """The node of this kind that makes a value, which, unless `shared`, has one reader."""
    node = value.producer()
    return node if node is not None and node.op_type == kind and (shared or len(value.uses()) == 1) else None


def _reader(value: ir.Value, kind: str) -> ir.Node | None:
    """The node of this kind that alone reads a value."""
    readers = value.consumers()
    return readers[0] if len(value.uses()) == 1 and readers[0].op_type == kind else None


def _after(graph: ir.Graph, place: ir.Node, node: ir.Node) -> ir.Value:
    graph.insert_before(place, node)
    return node.outputs[0]


def _take_over(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Put a new node's output in the place of an old one's, under its name."""
    import onnx_ir as ir

    one, other = old.outputs[0], new.outputs[0]
    other.name, other.type, other.shape = one.name, one.type, one.shape
    ir.convenience.replace_all_uses_with(one, other, replace_graph_outputs=True)
    graph.remove(old, safe=True)


def _array(value: ir.Value) -> np.ndarray:
    return value.const_value.numpy()


def _constant(graph: ir.Graph, array: np.ndarray) -> ir.Value:
    """An initializer."""
    import onnx_ir as ir

    tensor = ir.tensor(np.asarray(array), name=f"fused_{len(graph.initializers)}")
    value = ir.val(tensor.name, const_value=tensor)
    graph.register_initializer(value)
    return value
