"""What a quantizer of activations becomes in ONNX: tensors of unsigned bytes with one scale each, and a constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from aiqvit.deploy.onnx.ops import MOST, qdq
from aiqvit.interfaces import UserError
from aiqvit.quant.quantizers import Float, Quantizer, Signed, Uniform


@dataclass(frozen=True)
class Form:
    """x' = gain (sum of `terms(x)` + constant); each term has uint8 codes, unless `reason` says why it has not."""

    terms: Callable[[Tensor], list[Tensor]]
    constant: float = 0.0
    gain: float = 1.0
    reason: str = ""


def uniform(q: Uniform) -> Form:
    """QuantizeLinear, Clip below 8 bits, DequantizeLinear. A zero point outside of 0..255 moves into a constant."""
    scale, zero, last = q.scale.item(), round(q.zero.item()), q.levels - 1
    inside = min(max(zero, 0), MOST)
    shift = scale * (zero - inside)  # of the input

    def terms(x: Tensor) -> list[Tensor]:
        return [qdq(x + shift if shift else x, scale, inside, 0, last, scale)]

    return Form(terms, constant=-shift)


def full(q: Float) -> Form:
    """The tensor itself."""
    return Form(lambda x: [x], reason=f"{q.kind} activations")


FORMS: dict[type[Quantizer], Callable[..., Form]] = {
    Uniform: uniform, Signed: uniform, Float: full,
}


def form_of(q: Quantizer) -> Form:
    """The form of a calibrated quantizer of activations. Raises `UserError` for one that has none, by its site."""
    make = FORMS.get(type(q))
    if make is None:
        raise UserError(f"{q.site.name}: {q.kind} codes have no form in ONNX")
    if q.axis is not None:
        raise UserError(f"{q.site.name}: one range a {q.granularity} has no form in ONNX")
    return make(q)
