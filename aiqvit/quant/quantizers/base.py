"""What all quantizers share: a number format with its parameters, calibrated on data, trainable, saved and loaded.

Each one can find its range, fake-quantize with straight-through gradients to its input and its parameters, give
integer codes in 0..2^b - 1 and decode them; `decode(encode(x))` equals the fake quantizer.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from aiqvit.interfaces import UserError
from aiqvit.quant.blend import blend
from aiqvit.quant.observers import PERCENTILES, Observer, best_range, thinned
from aiqvit.quant.site import Site

GRANULARITY = {None: "tensor", 0: "channel", -1: "channel", 1: "head", -2: "token"}
Mode = Literal["off", "observe", "on"]
Measure = Callable[[Tensor], Tensor]  # turns an operand into what its error is measured on, such as a product
STATE = "_extra_state"  # torch's key for what is not a tensor


class Quantizer(nn.Module):
    """Base class. `axis` is the dimension that has its own parameters, None for one pair for the tensor.

    Weights (out, ...) take axis 0; activations (B, ..., C) take -1 (channel) or -2 (token), (B, H, N, D) take 1
    (head). `mode` is "off" (pass through), "observe" (calibrate on the next tensor, then "on") or "on".
    """

    kind: ClassVar[str]
    coded: ClassVar[bool] = True  # whether values are integer codes; False for float32 and float16
    scale: nn.Parameter

    def __init__(self, bits: int, axis: int | None = None, observer: Observer = PERCENTILES) -> None:
        super().__init__()
        self.bits, self.axis, self.observer = bits, axis, observer
        self.mode: Mode = "off"
        self.site = Site()  # surgery says where this stands
        self.drop, self.noise = 0.0, None  # see `dropping`
        self.images: int | None = None  # how many images the tensor to calibrate on holds; None: its length
        self.note = ""  # printed in the scheme card, for example when a switch allows more than 2^b codes

    @property
    def role(self) -> str:
        """See `Site`."""
        return self.site.role

    @property
    def granularity(self) -> str:
        """tensor, channel, head or token."""
        return GRANULARITY[self.axis]

    @property
    def levels(self) -> int:
        """Number of codes."""
        return 2**self.bits

    def dropping(self, share: float, noise: Generator | None = None) -> None:
        """While gradients flow, leave a `share` of the elements unquantized, drawn anew from `noise` (QDrop)."""
        self.drop, self.noise = share, noise

    def forward(self, x: Tensor, measure: Measure | None = None) -> Tensor:
        """Fake-quantize `x`; in mode "observe" the range is set from it first, by the error of `measure(x)`."""
        if self.mode == "off":
            return x
        if self.mode == "observe":
            self.calibrate(x, measure)
            self.mode = "on"
        y = self.fake(x)
        if self.drop and torch.is_grad_enabled():
            return blend(y, x, self.drop, self.noise)
        return y

    @torch.no_grad()
    def calibrate(self, x: Tensor, measure: Measure | None = None) -> None:
        """Choose the range of `x` by this quantizer's observer (see there for what the error is measured on)."""
        look = self.observer
        if look.images is not None:  # the rows of an image follow one another: a window attention has many
            x = x[: max(look.images * len(x) // (self.images or len(x)), 1)]
        measure = measure if look.by_output else None
        shares = []  # of the error of each element, where tokens count in units of their own
        if measure is None and look.by_token:
            size = x.square().mean(self.site.token_axis, keepdim=True).sqrt().clamp(min=1e-6)  # (..., 1), of each token
            shares = [size.reciprocal().expand_as(x)]
        if self.axis is None and look.elements:
            x, *shares = (thinned(t, look.elements) for t in (x, *shares))
        if shares:
            measure = shares[0].mul
        groups = self.grouped(x)
        target = None if measure is None else measure(x)

        def attempt(low: Tensor, high: Tensor) -> Tensor:
            self.set_range(self.broadcast(low, x), self.broadcast(high, x))
            return self.fake(x)

        def error(y: Tensor) -> Tensor:
            off = self.grouped(y).sub(groups) if measure is None else self.grouped(measure(y) - target)
            return (off.square_() if look.power == 2 else off.abs_().pow_(look.power)).mean(1)

        low, high = best_range(groups, look.ranges(groups, self.bits), attempt, error)
        self.set_range(self.broadcast(low, x), self.broadcast(high, x))

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

    def options(self) -> dict[str, Any]:
        """Options of the format that matter once ranges are found, as its constructor takes them."""
        return {}

    def config(self) -> dict[str, Any]:
        """What must be the same in a quantizer that loads this one's state, in plain values."""
        return {"format": type(self).__name__, "bits": self.bits, "options": self.options()}

    def get_extra_state(self) -> dict[str, Any]:
        """What a state_dict keeps besides tensors."""
        return {**self.config(), "axis": self.axis, "mode": self.mode, "note": self.note}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See `get_extra_state`."""
        self.axis, self.mode, self.note = state["axis"], state["mode"], state["note"]

    def _load_from_state_dict(self, state: dict, prefix: str, *rest: Any) -> None:
        """Take tensors of any granularity. Raises `UserError` that names the site for the state of another format."""
        kept = state.get(prefix + STATE, {})
        differing = [f"{key} {kept[key]} instead of {value}" for key, value in self.config().items()
                     if key in kept and kept[key] != value]
        if differing:
            raise UserError(f"the state is of another scheme: {prefix.rstrip('.')} has {', '.join(differing)}")
        for name, tensor in chain(self._parameters.items(), self._buffers.items()):
            new = state.get(prefix + name)
            if tensor is not None and new is not None and new.shape != tensor.shape:
                tensor.data = tensor.new_empty(new.shape)
        super()._load_from_state_dict(state, prefix, *rest)

    def grouped(self, x: Tensor) -> Tensor:
        """The tensor as (G, n): one row for all that shares parameters."""
        return x.reshape(1, -1) if self.axis is None else x.movedim(self.axis, 0).flatten(1)

    def broadcast(self, values: Tensor, x: Tensor) -> Tensor:
        """Values (G,) in the shape that broadcasts against `x`."""
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


def parameter(value: float = 1.0) -> nn.Parameter:
    """A parameter of shape (1,) that is not trained unless reconstruction says so."""
    return nn.Parameter(torch.full((1,), value), requires_grad=False)


class Float(Quantizer):
    """Leaves a site in float32, where a method's own protocol or the user's bits do."""

    kind = "float"
    coded = False

    def __init__(self, bits: int = 32, *_: Any) -> None:
        super().__init__(bits)

    def calibrate(self, x: Tensor, measure: Measure | None = None) -> None:
        """Nothing to choose."""

    def fake(self, x: Tensor) -> Tensor:
        """`x` itself."""
        return x

    def trainables(self) -> list[tuple[nn.Parameter, float]]:
        """None."""
        return []


class Half(Float):
    """float16, as weight-only kernels take their activations; values beyond its range become its largest."""

    kind = "float16"

    def __init__(self) -> None:
        super().__init__(16)

    def fake(self, x: Tensor) -> Tensor:
        """The nearest float16, with the gradient of the identity within its range."""
        most = torch.finfo(torch.float16).max
        x = x.clamp(-most, most)
        y = x.to(torch.float16).to(x.dtype)
        return x + (y - x).detach() if x.requires_grad else y
