"""What a file says of a quantizer, and the quantizer that it says it of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Interval, Len
from pydantic import ConfigDict
from torch import Tensor, broadcast_shapes
from typing_extensions import NotRequired, TypedDict

from aiqvit.quant.quantizers.base import STATE, Quantizer
from aiqvit.quant.site import FULL, HALF, Site
from aiqvit.quant.state import scheme_of

DIMENSIONS = 4  # of a quantizer's tensors at most
TOKEN = -2  # the axis whose parts may be those of each head too


class Stored(TypedDict):
    """A quantizer in plain values; its tensors have its name and their own."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    format: Annotated[str, Len(1, 100)]
    bits: Annotated[int, Interval(ge=2, le=FULL)]
    options: dict[Annotated[str, Len(1, 100)], bool | Annotated[str, Len(0, 100)]]
    axis: Literal[0, 1, -1, -2] | None  # the dimension that has values of its own; None: one for the tensor
    mode: Literal["off", "on"]
    note: Annotated[str, Len(0, 200)]
    symmetric: NotRequired[bool]  # of Signed: which codes it has chosen


def restored(name: str, stored: Stored, tensors: Mapping[str, Tensor]) -> Quantizer:
    """The quantizer `name` with its tensors. Raises `ValueError` for values and tensors that do not make one."""
    kind, bits = stored["format"], stored["bits"]
    wrong = ValueError(f"{name} is no {kind} of {bits} bits with the tensors {', '.join(sorted(tensors)) or '(none)'}")
    try:
        quantizer = scheme_of({f"{name}.{STATE}": stored})(Site(name)).build(Site(name))
        found: dict[str, Any] = {**tensors, STATE: stored}
        known = type(quantizer).__name__ == kind != Quantizer.__name__ and STATE not in tensors
        if not known or quantizer.coded != (bits not in (HALF, FULL)):
            raise wrong
        quantizer.load_state_dict(found)
    except (TypeError, KeyError, RuntimeError) as error:
        raise wrong from error
    if quantizer.get_extra_state() != stored:
        raise wrong
    for key, tensor in tensors.items():
        sides = sum(side > 1 for side in tensor.shape)
        most = 0 if quantizer.axis is None else 2 if quantizer.axis == TOKEN else 1
        if len(tensor.shape) > DIMENSIONS or not tensor.numel() or sides > most:
            raise ValueError(f"{name}.{key} has the shape {tuple(tensor.shape)}: expected one value, or with an axis "
                             "one for each part of that dimension")
    return quantizer


def weight_of(name: str, quantizer: Quantizer, codes: Tensor, bits: int) -> Tensor:
    """The weight (out, ...) of these codes. Raises `ValueError` where bits or shapes do not fit the quantizer."""
    if not quantizer.coded or quantizer.bits != bits:
        raise ValueError(f"{name} has codes of {bits} bits, but a quantizer of {quantizer.bits}")
    for key, tensor in (*quantizer.named_parameters(), *quantizer.named_buffers()):
        try:
            fits = broadcast_shapes(tensor.shape, codes.shape) == codes.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(f"{name} has the shape {tuple(codes.shape)}, but {key} has {tuple(tensor.shape)}")
    return quantizer.decode(codes)
