"""The weight of an export twin: codes with their scale and zero point, or floats where they stay so."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aiqvit.deploy.onnx.ops import weight
from aiqvit.interfaces import UserError
from aiqvit.quant.layers import QuantLayer
from aiqvit.quant.quantizers import Float, Signed, Uniform


class Codes(nn.Module):
    """uint8 codes, one range along `axis` or one for all."""

    def __init__(self, codes: Tensor, q: Uniform, axis: int, integer: bool, name: str) -> None:
        super().__init__()
        self.bits, self.axis, self.integer, self.name = q.bits, axis, integer, name
        self.register_buffer("codes", codes.to(torch.uint8).contiguous())
        self.register_buffer("scale", q.scale.detach().flatten().clone())
        self.register_buffer("zero", q.zero.flatten().to(torch.int32))

    def forward(self) -> Tensor:
        """The weight, decoded."""
        return weight(self.codes, self.scale, self.zero, self.bits, self.axis, self.integer, self.name)


class Floats(nn.Module):
    """Values as they are."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values.detach().contiguous())

    def forward(self) -> Tensor:
        """The weight."""
        return self.values


@dataclass(frozen=True)
class Weight:
    """The weight of a layer in its two layouts; `reason` says why a product with it is float, if it is."""

    name: str  # of the layer
    values: Tensor  # (out, in, ...): codes of `quantizer`, or floats where `reason` is given
    quantizer: Uniform | None
    reason: str = ""

    def matrix(self, integer: bool) -> Codes | Floats:
        """(in, out), of a product that runs on integers or not."""
        return self._module(self.values.flatten(1).t(), 1, integer)

    def kernel(self) -> Codes | Floats:
        """As the convolution has it, (out, in, h, w)."""
        return self._module(self.values, 0, False)

    def _module(self, values: Tensor, axis: int, integer: bool) -> Codes | Floats:
        return Floats(values) if self.quantizer is None else Codes(values, self.quantizer, axis, integer, self.name)


def weight_of(layer: QuantLayer, name: str) -> Weight:
    """The weight of a quantized layer.

    Raises `UserError` for one that is still being trained and for codes that have no form in ONNX, by the site.
    """
    q, values = layer.weight_quantizer, layer.weight.detach()
    if layer.compensation is not None:
        raise UserError(f"{name}: its compensation is still being trained: merge it before the export")
    if layer.offset is not None:
        return Weight(name, layer.quantized_weight().detach(), None, "a branch in full precision beside it")
    if isinstance(q, Float):
        return Weight(name, q(values), None, f"{q.kind} weights")
    if type(q) not in (Uniform, Signed) or q.axis not in (None, 0):
        raise UserError(f"{q.site.name}: {q.kind} codes of weights, one range a {q.granularity}, have no form in ONNX")
    if q.zero.min() < 0 or q.zero.max() >= q.levels:
        raise UserError(f"{q.site.name}: a zero point outside of its codes has no form in ONNX")
    return Weight(name, q.encode(values), q)
