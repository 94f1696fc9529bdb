"""The logarithm of a Softmax as one LogSoftmax: onnxruntime's Log takes a fifth of a model's time, LogSoftmax none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def fuse_log_softmax(model: ir.Model) -> None:
    """Rewrite Softmax, Mul by a constant, Relu, Log, in place, where nobody else reads what is between.

    `PRODUCT:left`, the name of the Softmax, becomes one of its logarithm.
    """
    for node in [node for node in model.graph if node.op_type == "Log"]:
        _fuse(model.graph, node)


def _fuse(graph: ir.Graph, log: ir.Node) -> None:
    import onnx_ir as ir

    value, factor = log.inputs[0], 1.0
    while (node := value.producer()) is not None and len(value.uses()) == 1 and node.op_type in ("Relu", "Mul"):
        if node.op_type == "Mul":
            constant = node.inputs[1].const_value
            if constant is None or constant.size != 1:
                return
            factor *= constant.numpy().item()
        value = node.inputs[0]
    if node is None or node.op_type != "Softmax" or len(value.uses()) != 1 or factor <= 0:
        return
    new = ir.node("LogSoftmax", node.inputs, node.attributes)
    new.outputs[0].name, value.name = value.name, None
    graph.insert_before(log, new)
    result = new.outputs[0]
    if factor != 1:
        shift = ir.tensor([math.log(factor)], ir.DataType.FLOAT, name=f"{result.name}.shift")
        constant = ir.val(shift.name, const_value=shift)
        graph.register_initializer(constant)
        added = ir.node("Add", [result, constant])
        graph.insert_before(log, added)
        result = added.outputs[0]
    ir.convenience.replace_all_uses_with(log.outputs[0], result)
    graph.remove(log, safe=True)
