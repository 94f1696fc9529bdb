"""Operators that the export twins call, each with its meaning in torch and its translation to ONNX.

`torch.export` keeps them whole, where it would take fake quantization apart into arithmetic that no runtime fuses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

DOMAIN = "aiqvit"  # of nodes that a later pass replaces: none of them reaches the file
BYTE = 255  # its largest code


@torch.library.custom_op("aiqvit::qdq", mutates_args=())
def qdq(x: Tensor, scale: float, zero: int, lowest: int, highest: int, step: float) -> Tensor:
    """Codes clip(round(x / scale) + zero, lowest, highest) within 0..255, read back as step (code - zero)."""
    return (torch.round(x * (1.0 / scale)) + zero).clamp_(lowest, highest).sub_(zero).mul_(step)


@torch.library.custom_op("aiqvit::weight", mutates_args=())
def weight(codes: Tensor, scale: Tensor, zero: Tensor, bits: int, axis: int, integer: bool, name: str) -> Tensor:
    """scale (code - zero) of uint8 codes of `bits` bits; `scale` and int32 `zero` are (1,) or go along `axis`.

    `integer` says that the product with it runs on integers, `name` is that of its layer.
    """
    return _along(scale, codes, axis) * (codes.float() - _along(zero, codes, axis))


@torch.library.custom_op("aiqvit::beyond", mutates_args=())
def beyond(x: Tensor, border: float) -> Tensor:
    """What of `x` is above the border, 0 elsewhere."""
    return torch.where(x > border, x, 0.0)


@torch.library.custom_op("aiqvit::tap", mutates_args=())
def tap(x: Tensor, name: str) -> Tensor:
    """`x`, which is to have this name in the file."""
    return x.clone()


def _along(values: Tensor, codes: Tensor, axis: int) -> Tensor:
    return values.reshape([-1 if i == axis else 1 for i in range(codes.dim())])


@qdq.register_fake
def _(x: Tensor, scale: float, zero: int, lowest: int, highest: int, step: float) -> Tensor:
    return torch.empty_like(x)


@weight.register_fake
def _(codes: Tensor, scale: Tensor, zero: Tensor, bits: int, axis: int, integer: bool, name: str) -> Tensor:
    return torch.empty_like(codes, dtype=torch.float32)


@beyond.register_fake
def _(x: Tensor, border: float) -> Tensor:
    return torch.empty_like(x)


@tap.register_fake
def _(x: Tensor, name: str) -> Tensor:
    return torch.empty_like(x)


def translations() -> dict[Callable, Callable]:
    """For `torch.onnx.export(custom_translation_table=...)`."""
    ops = torch.ops.aiqvit
    return {ops.qdq.default: _qdq, ops.weight.default: _weight, ops.beyond.default: _beyond, ops.tap.default: _tap}


def _qdq(x, scale: float, zero: int, lowest: int, highest: int, step: float):
    import onnx
    from onnxscript import opset21 as op

    def constant(kind: int, value: float):
        return op.Constant(value=onnx.helper.make_tensor("", kind, [], [value]))

    byte, single = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    codes = op.QuantizeLinear(x, constant(single, scale), constant(byte, zero))
    if lowest > 0 or highest < BYTE:
        codes = op.Clip(codes, constant(byte, lowest), constant(byte, highest))
    return op.DequantizeLinear(codes, constant(single, step), constant(byte, zero))


def _weight(codes, scale, zero, bits: int, axis: int, integer: bool, name: str):
    own = _own("Weight", ("uint8", "float", "int32"), bits="INT", axis="INT", integer="INT", name="STRING")
    return own(codes, scale, zero, bits=bits, axis=axis, integer=int(integer), name=name)


def _beyond(x, border: float):
    from onnxscript import opset21 as op

    return op.ThresholdedRelu(x, alpha=border)


def _tap(x, name: str):
    return _own("Tap", ("float",), name="STRING")(x, name=name)


@cache
def _own(kind: str, inputs: tuple[str, ...], **attributes: str):
    """A node of our domain: types of its inputs, and of its attributes; the output is float."""
    from onnx.defs import OpSchema
    from onnxscript import values

    types = {f"T{i}": f"tensor({name})" for i, name in enumerate(inputs)} | {"T": "tensor(float)"}
    schema = OpSchema(
        kind, DOMAIN, 1, inputs=[OpSchema.FormalParameter(f"x{i}", f"T{i}") for i in range(len(inputs))],
        outputs=[OpSchema.FormalParameter("y", "T")],
        type_constraints=[(name, [kind], "") for name, kind in types.items()],
        attributes=[OpSchema.Attribute(name, getattr(OpSchema.AttrType, kind), "")
                    for name, kind in attributes.items()])
    return values.Op(values.Opset(DOMAIN, 1), kind, schema)
