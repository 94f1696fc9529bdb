"""Quantizers as modules: a number format with its parameters, observed from data and trainable.

Each one can observe a range, fake-quantize with straight-through gradients to its input and its parameters, give
integer codes in 0..2^b - 1 and decode them; `decode(encode(x))` equals the fake quantizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aiqvit.quant import formats
from aiqvit.quant.blend import blend
from aiqvit.quant.observers import PercentileMSE, best_range, thinned

PERCENTILES = PercentileMSE()
GRANULARITY = {None: "tensor", 0: "channel", -1: "channel", 1: "head", -2: "token"}


class Quantizer(nn.Module):
    """Base class. `axis` is the dimension that has its own parameters, None for one pair for the tensor.

    Weights (out, ...) take axis 0; activations (B, ..., C) take -1 (channel) or -2 (token), (B, H, N, D) take 1
    (head). `mode` is "off" (pass through), "observe" (set the range from the next tensor, then "on") or "on".
    """

    kind: ClassVar[str]
    scale: nn.Parameter

    def __init__(self, bits: int, axis: int | None = None, observer: Any = PERCENTILES) -> None:
        super().__init__()
        self.bits, self.axis, self.observer = bits, axis, observer
        self.mode = "off"
        self.drop = 0.0  # while gradients flow, share of elements that are not quantized (QDrop)
        self.role = ""  # set by surgery
        self.features = -1  # the dimension that makes up a token; 1 in front of a convolution
        self.note = ""  # printed in the scheme card, for example when a switch allows more than 2^b codes

    @property
    def granularity(self) -> str:
        """tensor, channel, head or token."""
        return GRANULARITY[self.axis]

    @property
    def levels(self) -> int:
        """Number of codes."""
        return 2**self.bits

    def forward(self, x: Tensor, objective: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Fake-quantize `x`; in mode "observe" the range is set from it first, by the error of `objective(x)`."""
        if self.mode == "off":
            return x
        if self.mode == "observe":
            self.observe(x, objective)
            self.mode = "on"
        y = self.fake(x)
        if self.drop and torch.is_grad_enabled():
            return blend(y, x, self.drop)
        return y

    @torch.no_grad()
    def observe(self, x: Tensor, objective: Callable[[Tensor], Tensor] | None = None) -> None:
        """Choose the range of `x` by this quantizer's observer, on its first `observer.images` rows if it says so."""
        x = x[: getattr(self.observer, "images", None)]
        objective = objective if getattr(self.observer, "by_output", False) else None
        shares = []  # of the error of each element, where tokens count in units of their own
        if objective is None and getattr(self.observer, "by_token", False):
            size = x.square().mean(self.features, keepdim=True).sqrt().clamp(min=1e-6)  # (..., 1), of each token
            shares = [size.reciprocal().expand_as(x)]
        if self.axis is None and (elements := getattr(self.observer, "elements", 0)):
            x, *shares = (thinned(t, elements) for t in (x, *shares))
        if shares:
            objective = shares[0].mul
        groups = self._grouped(x)
        power = self.observer.power

        def attempt(low: Tensor, high: Tensor) -> Tensor:
            self.set_range(self._broadcast(low, x), self._broadcast(high, x))
            return self.fake(x)

        def error(y: Tensor) -> Tensor:
            off = self._grouped(y).sub(groups) if objective is None else self._grouped(objective(y) - target)
            return (off.square_() if power == 2 else off.abs_().pow_(power)).mean(1)

        target = None if objective is None else objective(x)
        low, high = best_range(groups, self.observer.ranges(groups), attempt, error)
        self.set_range(self._broadcast(low, x), self._broadcast(high, x))

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Take the range [low, high], shaped to broadcast against the tensor."""
        raise TypeError(f"{type(self).__name__} does not implement set_range")

    def fake(self, x: Tensor) -> Tensor:
        """Quantize and decode, with straight-through gradients."""
        raise TypeError(f"{type(self).__name__} does not implement fake")

    def encode(self, x: Tensor) -> Tensor:
        """Integer codes, int32, the shape of `x`."""
        raise TypeError(f"{type(self).__name__} does not implement encode")

    def decode(self, codes: Tensor) -> Tensor:
        """Values of integer codes."""
        raise TypeError(f"{type(self).__name__} does not implement decode")

    def trainables(self) -> list[tuple[nn.Parameter, float]]:
        """Parameters that reconstruction may learn, each with the move that shifts an end of the range by one level.

        Learning rates are in these units, so that they mean the same at all bit widths.
        """
        return [(self.scale, self.scale.mean().item() / self.levels)]

    def constrain(self) -> None:
        """Bring trained parameters back into their domain; called after each step."""

    def _grouped(self, x: Tensor) -> Tensor:  # (G, n): one row for all that shares parameters
        return x.reshape(1, -1) if self.axis is None else x.movedim(self.axis, 0).flatten(1)

    def _broadcast(self, values: Tensor, x: Tensor) -> Tensor:  # (G,) to the shape that broadcasts against x
        if self.axis is None:
            return values
        shape = [1] * x.dim()
        shape[self.axis] = -1
        if self.axis < 0:
            shape = shape[self.axis :]  # leading dimensions may differ from batch to batch
        return values.reshape(shape)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"{self.role}, {self.kind}, {self.bits} bit per {self.granularity}, {self.mode}"


def _parameter(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.full((1,), value), requires_grad=False)


class Float(Quantizer):
    """Leaves a site in full precision, where a method's own protocol does."""

    kind = "float"

    def __init__(self) -> None:
        super().__init__(bits=32)

    def observe(self, x: Tensor, objective: Callable[[Tensor], Tensor] | None = None) -> None:
        """Nothing to choose."""

    def fake(self, x: Tensor) -> Tensor:
        """`x` itself."""
        return x

    def trainables(self) -> list[tuple[nn.Parameter, float]]:
        """None."""
        return []


class Uniform(Quantizer):
    """q = clip(round(x / s) + z, 0, 2^b - 1), x' = s (q - z) (AIQViT Eq. 6).

    `symmetric` fixes z at 2^{b-1}. `include_zero` stretches the range to hold 0, which plain activations and weights
    need; a post-LayerNorm channel far from 0 does without (z is then outside 0..2^b - 1, still an integer).
    """

    kind = "uniform"

    def __init__(self, bits: int, axis: int | None = None, observer: Any = PERCENTILES, *,
                 symmetric: bool = False, include_zero: bool = True) -> None:
        super().__init__(bits, axis, observer)
        self.symmetric, self.include_zero = symmetric, include_zero
        self.scale = _parameter()
        self.register_buffer("zero", torch.zeros(1))

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`."""
        if self.include_zero:
            low, high = low.clamp(max=0), high.clamp(min=0)
        scale, self.zero = formats.affine_qparams(low, high, self.bits, self.symmetric)
        self.scale.data = scale

    def fake(self, x: Tensor) -> Tensor:
        """See `Quantizer`; gradients to `x` and `scale`."""
        needs = torch.is_grad_enabled() and (x.requires_grad or self.scale.requires_grad)
        with torch.no_grad():
            if not needs:
                return formats.uniform_fake(x, self.scale, self.zero, self.bits)
            y, mask = formats.uniform_round(x, self.scale, self.zero, self.bits)
        return formats.ScaleSTE.apply(x, self.scale, y, mask)

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer`."""
        return formats.uniform_encode(x, self.scale, self.zero, self.bits)

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        return formats.uniform_decode(codes, self.scale, self.zero)

    def constrain(self) -> None:
        """Keep scales positive."""
        self.scale.data.clamp_(min=1e-8)


class Log(Quantizer):
    """Base 2^{1/n} logarithm of non-negative values: q = clip(round(-n log2(x / s)), 0, 2^b - 1), x' = s 2^{-q/n}."""

    kind = "log2"
    steps: ClassVar[int] = 1
    zero_code: int | None = None

    def __init__(self, bits: int, axis: int | None = None, observer: Any = PERCENTILES) -> None:
        super().__init__(bits, axis, observer)
        self.scale = _parameter()

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`; only the upper end counts."""
        self.scale.data = high.clamp(min=1e-8)

    def fake(self, x: Tensor) -> Tensor:
        """See `Quantizer`; gradients to `x` and `scale`."""
        needs = torch.is_grad_enabled() and (x.requires_grad or self.scale.requires_grad)
        with torch.no_grad():
            codes = formats.log_encode(x, self.scale, self.steps, self.levels)
            inside = (codes < self.levels - 1).logical_and_(x <= self.scale) if needs else None
            y = formats.log_decode(codes, self.scale, self.steps, self.zero_code)
        return formats.ScaleSTE.apply(x, self.scale, y, inside) if needs else y

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer`."""
        return formats.log_encode(x, self.scale, self.steps, self.levels).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        return formats.log_decode(codes.to(self.scale.dtype, copy=True), self.scale, self.steps, self.zero_code)

    def constrain(self) -> None:
        """Keep scales positive."""
        self.scale.data.clamp_(min=1e-8)


class Log2(Log):
    """AIQViT Eq. 7: powers of two; the smallest code does not mean 0."""


class LogSqrt2(Log):
    """RepQ-ViT's log-sqrt2 for post-Softmax maps; the last code means 0.

    The authors' code keeps 2^b codes and 0, one more than b bits hold; `official_levels` does the same.
    """

    kind = "log-sqrt2"
    steps = 2

    def __init__(self, bits: int, axis: int | None = None, observer: Any = PERCENTILES, *,
                 official_levels: bool = False) -> None:
        super().__init__(bits, axis, observer)
        self.zero_code = 2**bits if official_levels else 2**bits - 1
        self.note = f"{self.levels} codes (official_levels)" if official_levels else ""

    @property
    def levels(self) -> int:
        """Number of codes."""
        return self.zero_code + 1


class DynamicFocusing(Quantizer):
    """AIQViT Eq. 15: 0 below b1, 2^b - 1 above b2, uniform between; both bounds learned, one pair a Softmax layer.

    The paper does not give the decoding. `decoding`: "affine" x' = b1 + s q (default), "intzp" x' = s (q - z) with an
    integer z and codes clip(round(x / s) + z), "zero_low" as affine but code 0 reads back as 0.
    """

    kind = "dynamic-focusing"

    def __init__(self, bits: int, axis: int | None = None, observer: Any = PERCENTILES, *,
                 decoding: str = "affine") -> None:
        super().__init__(bits, axis, observer)
        if decoding not in ("affine", "intzp", "zero_low"):
            raise ValueError(f"decoding {decoding!r}: expected affine, intzp or zero_low")
        self.decoding = decoding
        self.note = "" if decoding == "affine" else decoding
        self.b1, self.b2 = _parameter(0.0), _parameter(1.0)

    @property
    def step(self) -> Tensor:
        """Distance between neighbouring levels."""
        return (self.b2 - self.b1) / (2**self.bits - 1)

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """See `Quantizer`."""
        self.b1.data, self.b2.data = low.clone(), torch.maximum(high, low + 1e-6)

    def fake(self, x: Tensor) -> Tensor:
        """See `Quantizer`; gradients to `x`, `b1` and `b2`."""
        with torch.no_grad():
            codes = self._codes(x)
            y = self._values(codes.clone() if self.decoding == "zero_low" else codes)
        if not (torch.is_grad_enabled() and (x.requires_grad or self.b1.requires_grad)):
            return y
        with torch.no_grad():
            low, high = x < self.b1, x > self.b2
            mask = (low | high).logical_not_()
            if self.decoding == "zero_low":
                low, mask = torch.zeros_like(low), mask & (codes > 0)
        return formats.FocusSTE.apply(x, self.b1, self.b2, y, mask, low, high)

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer`."""
        return self._codes(x).to(torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer`."""
        return self._values(codes.to(self.b1.dtype, copy=True))

    def trainables(self) -> list[tuple[nn.Parameter, float]]:
        """See `Quantizer`."""
        return [(self.b1, self.step.item()), (self.b2, self.step.item())]

    def constrain(self) -> None:
        """Keep 0 <= b1 < b2 <= 1."""
        self.b2.data.clamp_(1e-4, 1.0)
        self.b1.data = torch.minimum(self.b1.data.clamp(min=0.0), self.b2.data - 1e-5)

    def _codes(self, x: Tensor) -> Tensor:
        last, step = 2**self.bits - 1, self.step
        if self.decoding == "intzp":
            return (x * (1.0 / step)).round_().add_(torch.round(-self.b1 / step)).clamp_(0, last)
        return (x - self.b1).mul_(1.0 / step).clamp_(0, last).round_()

    def _values(self, codes: Tensor) -> Tensor:  # overwrites `codes`
        if self.decoding == "intzp":
            return codes.sub_(torch.round(-self.b1 / self.step)).mul_(self.step)
        lowest = codes == 0 if self.decoding == "zero_low" else None
        values = codes.mul_(self.step).add_(self.b1)
        return values if lowest is None else values.mul_(~lowest)
