"""How codes of weights are stored in the file: in forms that onnxruntime turns into int8 when it loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

Target = Literal["ort", "openvino"]


def store(model: ir.Model, target: Target) -> None:
    """Replace every `Weight` node (see `aiqvit.deploy.onnx.ops`) of a model by stored codes and how they are read."""
    for node in list(model.graph):
        if node.op_type == "Weight":
            _Stored(model.graph, node, target).replace()


class _Stored:
    """One weight: `codes` 0..2^b - 1 in uint8 (in, out), `scale` and `zero` (out,), or (1,) for one range."""

    def __init__(self, graph: ir.Graph, node: ir.Node, target: Target) -> None:
        self.graph, self.node, self.target = graph, node, target
        self.codes, self.scale, self.zero = node.inputs
        self.bits, self.axis = (node.attributes[name].as_int() for name in ("bits", "axis"))

    def replace(self) -> None:
        """Put the weight's new nodes in place of its old one."""
        import onnx_ir as ir

        if not self.node.attributes["integer"].as_int():
            new = self._folded()
        elif self.bits <= 4:
            new = self._dequantize(self._cast(self._differences("INT32"), "INT8"))
        else:
            new = self._dequantize(self.codes, *self._bytes())
        ir.convenience.replace_all_uses_with(self.node.outputs[0], new)
        self.graph.remove(self.node, safe=True)

    def _bytes(self) -> list[ir.Value]:
        """Store 5 to 8 bits as a byte each; the zero point, where there is one."""
        codes, zero = _array(self.codes).astype(np.int32), _array(self.zero)
        if self.bits == 8:
            kind, shift = ("UINT8", 0) if self.target == "openvino" else ("INT8", 128)
            _set(self.codes, codes - shift, kind)
            _set(self.zero, self._squeezed(zero - shift), kind)
            return [self.zero]
        _set(self.codes, codes - zero, "INT8")  # within -127..127
        return []

    def _differences(self, kind: str) -> ir.Value:
        """Code minus zero point as numbers of a type that holds all of them; 4 bits and fewer are stored as INT4."""
        for value in (self.codes, self.zero):
            array = _array(value).astype(np.int32)
            _set(value, *((array - 8, "INT4") if self.bits <= 4 else (array, "UINT8")))
        return self._add("Sub", self._cast(self.codes, kind), self._cast(self.zero, kind))

    def _folded(self) -> ir.Value:
        """A float weight once the runtime has folded it; through DequantizeLinear it would round activations too."""
        return self._add("Mul", self._differences("FLOAT"), self.scale)

    def _dequantize(self, codes: ir.Value, *zero: ir.Value) -> ir.Value:
        _set(self.scale, self._squeezed(_array(self.scale)), "FLOAT")
        return self._add("DequantizeLinear", codes, self.scale, *zero, axis=self.axis)

    def _squeezed(self, values: np.ndarray) -> np.ndarray:  # one range for the tensor is a scalar
        return values.reshape(()) if values.size == 1 else values

    def _cast(self, value: ir.Value, kind: str) -> ir.Value:
        import onnx_ir as ir

        return self._add("Cast", value, to=ir.DataType[kind])

    def _add(self, kind: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        import onnx_ir as ir

        node = ir.node(kind, inputs, attributes or None)
        self.graph.insert_before(self.node, node)
        return node.outputs[0]


def _array(value: ir.Value) -> np.ndarray:
    return value.const_value.numpy()


def _set(value: ir.Value, array: np.ndarray, kind: str) -> None:
    import onnx_ir as ir

    dtype = ir.DataType[kind]
    value.const_value = ir.tensor(array.astype(dtype.numpy()), dtype, name=value.name)
    value.dtype, value.shape = dtype, ir.Shape(array.shape)
