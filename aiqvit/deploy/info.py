"""What a quantized model says of itself: how it was made, and how its network is built again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from aiqvit.bounds import Size
from aiqvit.interfaces import Coverage, UserError

ATTRIBUTE = "aiqvit_info"


@dataclass(frozen=True)
class Info:
    """Plain values only, so that a file can hold them."""

    method: str = ""  # its registered name
    title: str = ""  # as in tables, with the settings that were changed
    note: str = ""  # the method's own, for example that it is a reimplementation
    bits: str = ""  # weights/activations
    preset: str = ""
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)  # all hyper-parameters, and `bits:PATTERN`
    rewritten: Sequence[str] = ()  # what was done to the network before quantization, or why not; a sentence each
    samples: int = 0  # calibrated on
    shape: tuple[Size, ...] = ()  # of one input sample, without the batch; empty where inputs are no tensors
    model: str = ""  # the network's name or class
    task: str = ""  # the task that it was loaded by
    recipe: Mapping[str, Any] = field(default_factory=dict)  # see `aiqvit.deploy.rebuild`; empty: nobody knows it
    roles: Mapping[str, str] = field(default_factory=dict)  # of layers at the ends of a network that no family knows
    network: str = ""  # fingerprint of its modules and attributes, see `aiqvit.deploy.fit`; empty: nobody knows it
    weights: str = ""  # sha256 of the weights that were quantized
    size: int = 0  # bytes of these
    coverage: Mapping[str, Any] = field(default_factory=dict)  # `Coverage` as plain values
    versions: Mapping[str, str] = field(default_factory=dict)  # of aiqvit, torch and timm

    @property
    def covered(self) -> Coverage | None:
        """What of the model is quantized, as it was counted when the model was made."""
        return Coverage(**self.coverage) if self.coverage else None


def attach(model: nn.Module, info: Info) -> nn.Module:
    """Let a quantized model know where it comes from; returns it."""
    setattr(model, ATTRIBUTE, info)
    return model


def info_of(model: nn.Module) -> Info:
    """What a quantized model says of itself. Raises `UserError` for one that was not made by aiqvit."""
    found = getattr(model, ATTRIBUTE, None)
    if not isinstance(found, Info):
        raise UserError(f"{type(model).__name__} is no quantized model: aiqvit.quantize or aiqvit.load make one")
    return found


def plain(info: Info) -> dict[str, Any]:
    """All fields as JSON takes them; what is new in version 2 of the format only where it says something."""
    values = asdict(info) | {"shape": list(info.shape), "rewritten": list(info.rewritten)}
    return {key: value for key, value in values.items() if value or key != "rewritten"}
