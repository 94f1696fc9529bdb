"""What a quantizer of activations becomes in ONNX: tensors of unsigned bytes with one scale each, and a constant.

A product with such an operand is a sum of integer products, one a tensor, and the constant times a sum over the other
operand. Codes that are no multiples of a step are decoded instead, and their product is float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from aiqvit.deploy.onnx.ops import BYTE, beyond, qdq
from aiqvit.interfaces import UserError
from aiqvit.quant.quantizers import (
    AdaptiveLog,
    DynamicFocusing,
    Float,
    Half,
    Log2,
    LogSqrt2,
    Quantizer,
    ShiftUniformLog2,
    Signed,
    TwinGelu,
    TwinSoftmax,
    Uniform,
)
from aiqvit.quant.quantizers.adaptive_log import DENOMINATOR, SMALLEST
from aiqvit.quant.quantizers.twin import GELU_MINIMUM

LN2 = math.log(2)


@dataclass(frozen=True)
class Form:
    """x' = gain (sum of `terms(x)` + constant). Each term has codes of a byte, unless `reason` says why it has not."""

    terms: Callable[[Tensor], list[Tensor]]
    constant: float = 0.0
    gain: float = 1.0
    reason: str = ""

    def decoded(self, x: Tensor) -> Tensor:
        """The quantized values as one tensor."""
        y = total(self.terms(x))
        y = y + self.constant if self.constant else y
        return y if self.gain == 1 else y * self.gain


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of at least one tensor."""
    return reduce(torch.add, terms)


def form_of(q: Quantizer) -> Form:
    """The form of a calibrated quantizer of activations. Raises `UserError` for one that has none, by its site."""
    make = FORMS.get(type(q))
    if make is None:
        raise UserError(f"{q.site.name}: {q.note or f'{q.kind} codes'} have no form in ONNX")
    if q.axis is not None:
        raise UserError(f"{q.site.name}: one range a {q.granularity} has no form in ONNX, one a tensor has")
    return make(q)


def _affine(scale: float, zero: int, last: int) -> Form:
    """s (q - z) of codes 0..last. A zero point outside of a byte is moved by a shift of the input."""
    inside = min(max(zero, 0), BYTE)
    shift = scale * (zero - inside)
    return Form(lambda x: [qdq(x + shift if shift else x, scale, inside, 0, last, scale)], constant=-shift)


def _uniform(q: Uniform) -> Form:
    return _affine(q.scale.item(), round(q.zero.item()), q.levels - 1)


def _full(q: Float) -> Form:
    return Form(lambda x: [x], reason="float32 activations")


def _half(q: Half) -> Form:
    most = torch.finfo(torch.float16).max
    return Form(lambda x: [x.clamp(-most, most).half().float()], reason="float16 activations")


def _focusing(q: DynamicFocusing) -> Form:
    """b1 + s q; "zero_low" has b1 only where q > 0: a second tensor, of the codes 0 and 1."""
    low, step, last = q.b1.item(), q.step.item(), q.levels - 1
    if q.decoding == "intzp":
        return _affine(step, round(-low / step), last)

    def terms(x: Tensor) -> list[Tensor]:
        x = x - low if low else x
        first = qdq(x, step, 0, 0, last, step)
        return [first, qdq(x, step, 0, 0, 1, low)] if q.decoding == "zero_low" and low else [first]

    return Form(terms, constant=low if q.decoding == "affine" else 0.0)


def _log(q: LogSqrt2 | Log2) -> Form:
    """s 2^{-q/n}: bytes 255 - q of ln(x / s), which saturate at 0 as they should."""
    _fits(q, q.levels)
    scale, step, lowest = q.scale.item(), LN2 / q.steps, BYTE + 1 - q.levels
    border = None if q.zero_code is None else 2 ** ((0.5 - q.zero_code) / q.steps)  # what lies below means 0
    if border is not None and border < torch.finfo(torch.float32).tiny:
        border = None  # what lies below is 0 in every sum

    def terms(x: Tensor) -> list[Tensor]:
        ratio = (x if scale == 1 else x * (1.0 / scale)).relu()
        y = qdq(ratio.log(), step, BYTE, lowest, BYTE, step).exp()
        return [y if border is None else beyond(y, border)]

    return Form(terms, gain=scale, reason=f"{q.kind} codes")


def _shift_log(q: ShiftUniformLog2) -> Form:
    """2^round(-(s q + l)) - eta: bytes 255 - q of ln(x + eta)."""
    _fits(q, q.levels)
    shift, low, step = q.shift.item(), q.low.item(), q.step.item()

    def terms(x: Tensor) -> list[Tensor]:
        y = qdq((x + shift).log() + low * LN2, step * LN2, BYTE, BYTE + 1 - q.levels, BYTE, step)  # - s q
        return [((y - low).round() * LN2).exp()]

    return Form(terms, constant=-shift, reason=f"{q.kind} codes")


def _adaptive_log(q: AdaptiveLog) -> Form:
    """s T[c] - shift: bytes 255 - c of ln((x + shift) / s), then a look-up; the shift goes into the bias behind."""
    _fits(q, q.levels)
    scale, shift, step = q.scale.item(), q.shift, LN2 * q.numerator.item() / DENOMINATOR
    table = q.values().detach().flip(0)  # of the codes from the last one

    def terms(x: Tensor) -> list[Tensor]:
        ratio = ((x + shift if shift else x) * (1.0 / scale)).clamp(SMALLEST, 1.0)
        codes = qdq(ratio.log(), step, BYTE, BYTE + 1 - q.levels, BYTE, 1.0)  # - c
        return [table.to(x.device)[codes.to(torch.int64) + (q.levels - 1)]]

    return Form(terms, constant=-shift / scale, gain=scale, reason=f"{q.kind} codes")


def _twin_softmax(q: TwinSoftmax) -> Form:
    """One tensor of the values below the border, one of those above.

    A value that reads back as t although its code is of the second range is as well the last code of the first.
    """
    if q.official_sum:
        raise UserError(f"{q.site.name}: the sum of the authors' code (official_sum) has no form in ONNX")
    t, last = q.high.item(), q.half - 1
    code = round(t * last)
    border = max(t, (code + 0.5) / last) if code / last < t else t
    below = np.nextafter(np.float32(border), np.float32(0)).item()

    def terms(x: Tensor) -> list[Tensor]:
        high = beyond(x, below)
        return [qdq(x - high, t / last, 0, 0, last, t / last), qdq(high, 1 / last, 0, 0, last, 1 / last)]

    return Form(terms)


def _twin_gelu(q: TwinGelu) -> Form:
    """One tensor of the positive values, one of the negative."""
    up, down = q.high.item() / (q.half - 0.5), GELU_MINIMUM / q.half
    return Form(lambda x: [qdq(x, up, 0, 0, q.half - 1, up), qdq(x, down, q.half, 0, q.half, down)])


def _fits(q: Quantizer, levels: int) -> None:
    if levels > BYTE + 1:
        raise UserError(f"{q.site.name}: its {levels} codes (official_levels) do not fit into a byte")


FORMS: dict[type[Quantizer], Callable[..., Form]] = {
    AdaptiveLog: _adaptive_log, Uniform: _uniform, Signed: _uniform, Float: _full, Half: _half,
    DynamicFocusing: _focusing, LogSqrt2: _log, Log2: _log, ShiftUniformLog2: _shift_log, TwinSoftmax: _twin_softmax,
    TwinGelu: _twin_gelu,
}
