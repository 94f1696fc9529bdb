"""How codes of weights are stored in the file: in forms that onnxruntime turns into int8 when it loads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

Target = Literal["ort", "openvino"]
BYTES = {"ort": ("INT8", 128), "openvino": ("UINT8", 0)}  # for 0..255: the fast type, and its shift


def store(model: ir.Model, target: Target) -> None:
    """Replace every `Weight` node (see `aiqvit.deploy.onnx.ops`) of a model by stored codes and how they are read."""
    import onnx_ir as ir

    for node in [node for node in model.graph if node.op_type == "Weight"]:
        ir.convenience.replace_all_uses_with(node.outputs[0], _Stored(model.graph, node).value(target))
        model.graph.remove(node, safe=True)


class _Stored:
    """One weight: codes 0..2^b - 1 and, along one axis or for all, scales and zero points."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self.graph, self.node = graph, node
        codes, scale, zero = (value.const_value.numpy() for value in node.inputs)
        self.codes, self.scale, self.zero = codes.astype(np.int32), scale, zero
        self.bits, self.axis = (node.attributes[name].as_int() for name in ("bits", "axis"))
        self.name = node.attributes["name"].as_string()

    def value(self, target: Target) -> ir.Value:
        """The weight; its nodes are put in front of the old one."""
        if not self.node.attributes["integer"].as_int():  # folded to floats: DequantizeLinear would round activations
            return self._add("Mul", self._differences("FLOAT"), self._initializer("scale", self._along(self.scale)))
        if self.bits <= 4:
            return self._dequantize(self._cast(self._differences("INT32"), "INT8"))
        signed = self.codes - self._along(self.zero)
        if signed.min() >= -128 and signed.max() <= 127:
            return self._dequantize(self._initializer("codes", signed, "INT8"))
        kind, shift = BYTES[target]
        return self._dequantize(self._initializer("codes", self.codes - shift, kind),
                                self._initializer("zero", _scalar(self.zero - shift), kind))

    def _differences(self, kind: str) -> ir.Value:
        """Code minus zero point, as numbers of a type that holds them all; 4 bits and fewer are stored as INT4."""
        stored, shift = ("INT4", 8) if self.bits <= 4 else ("UINT8", 0)
        zero = self.zero[:1] if (self.zero == self.zero[0]).all() else self._along(self.zero)
        parts = [self._cast(self._initializer(name, values - shift, stored), kind)
                 for name, values in (("codes", self.codes), ("zero", zero))]
        return self._add("Sub", *parts)

    def _dequantize(self, codes: ir.Value, *zero: ir.Value) -> ir.Value:
        scale = self._initializer("scale", _scalar(self.scale))
        return self._add("DequantizeLinear", codes, scale, *zero, axis=self.axis)

    def _along(self, values: np.ndarray) -> np.ndarray:
        return values.reshape([-1 if i == self.axis else 1 for i in range(self.codes.ndim)])

    def _cast(self, value: ir.Value, kind: str) -> ir.Value:
        import onnx_ir as ir

        return self._add("Cast", value, to=ir.DataType[kind])

    def _add(self, kind: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        import onnx_ir as ir

        node = ir.node(kind, inputs, attributes or None)
        self.graph.insert_before(self.node, node)
        return node.outputs[0]

    def _initializer(self, what: str, values: np.ndarray, kind: str = "FLOAT") -> ir.Value:
        import onnx_ir as ir

        dtype, name = ir.DataType[kind], f"{self.name}.{what}"
        if name in self.graph.initializers:  # the layer is called again
            return self.graph.initializers[name]
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(values.shape),
                         const_value=ir.tensor(values.astype(dtype.numpy()), dtype, name=name))
        self.graph.register_initializer(value)
        return value


def _scalar(values: np.ndarray) -> np.ndarray:  # one range for the tensor
    return values.reshape(()) if values.size == 1 else values
