"""What a contributor implements: a `Task` (data, models, metric) or a `Method` (how to quantize).

Both are found by name through `aiqvit.registry`; nothing else has to know them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from aiqvit.errors import Diverged, NotHere, UserError
from aiqvit.outcomes import Labelled, Outcomes
from aiqvit.samples import Batch, joined
from aiqvit.task import DataIdentity, Subject, Task

if TYPE_CHECKING:  # listing names and printing help must not import torch
    from torch import Generator, Tensor, nn

__all__ = ["Batch", "Bits", "Checkpoint", "Coverage", "DataIdentity", "Diverged", "Job", "Labelled", "Method",
           "NotHere", "Outcomes", "Shared", "Subject", "Task", "Trained", "UserError"]


@dataclass(frozen=True)
class Bits:
    """Bit widths of weights, 2 to 8, and of activations, 2 to 8, 16 (float16) or 32; 32/32 means full precision."""

    weight: int
    activation: int

    @classmethod
    def parse(cls, text: str) -> Bits:
        """Read `"4/4"`, or `"W4A4"`, as weights/activations. Raises `UserError` for what is not supported."""
        parts = re.sub(r"^w(\d+)[/_-]?a(\d+)$", r"\1/\2", text.strip().lower()).split("/")
        good = len(parts) == 2 and all(p.isascii() and p.isdecimal() and len(p) <= 2 for p in parts)
        if not (good and 2 <= int(parts[0]) <= 8 and (2 <= int(parts[1]) <= 8 or int(parts[1]) in (16, 32))):
            raise UserError(f"bits {text!r}: expected weights/activations, each from 2 to 8, for example 4/4; "
                            "activations may also be 16 or 32 (weight-only, 4/32)")
        return cls(int(parts[0]), int(parts[1]))

    def __str__(self) -> str:
        return f"{self.weight}/{self.activation}"


@dataclass(frozen=True)
class Coverage:
    """How much of a model runs on quantized operands: shares of all multiply-accumulates, which sum to 1."""

    macs: int  # of one sample
    quantized: float  # both operands are integer codes
    one_operand: float  # one is, as in weight-only quantization
    declared: float  # neither, because the method, the user's bits or the family say so
    missed: float  # neither, and nobody said so
    first: str = ""  # the first module that was missed, with its type

    def __str__(self) -> str:
        parts = ((self.one_operand, "with one of two quantized"), (self.declared, "in full precision by design"),
                 (self.missed, f"MISSED, the first in {self.first}"))
        rest = "".join(f"; {share:.2%} {what}" for share, what in parts if share > 5e-5)
        macs = f"{self.macs / 1e6:.1f} M multiply-accumulates"
        return f"coverage {self.quantized:.2%} of {macs} on quantized operands{rest}"


def _plain(items: Iterable, description: str = "", total: int | None = None) -> Iterable:
    return items


class Checkpoint:
    """Where a run keeps the units that it has finished, in case that it is killed. This one keeps nothing."""

    seconds: float = 0.0  # that earlier processes spent on what was loaded

    def load(self, unit: str) -> dict[str, Any] | None:
        """What was saved under a unit's name, or None. Asked for in the order of `save`, before anything is saved."""
        return None

    def refuse(self, unit: str, error: Exception) -> None:
        """What was loaded of a unit does not fit: it is named, and no later unit is loaded."""

    def save(self, unit: str, state: dict[str, Any]) -> None:
        """Keep tensors and plain values; `log` in it is the unit's entry for the record."""


class Shared:
    """Results that runs with the same model, samples, seed and rewriting have in common. This one keeps nothing."""

    def __init__(self) -> None:
        self.seconds = 0.0  # that other runs spent on what this one took; part of what it says it took

    def get(self, key: Hashable) -> Any:
        """What another run put under a key, which says all that it depends on besides; or None."""

    def put(self, key: Hashable, value: Any) -> None:
        """Keep tensors and plain values, which nobody changes any more."""


@dataclass
class Job:
    """All that a method gets: a model to change in place, data to calibrate on, bits, a seed."""

    model: nn.Module
    units: Sequence[str] | None  # modules to reconstruct one by one; None: those that the model's family names
    calibration: Sequence[Batch]
    bits: Bits
    seed: int = 0
    bit_rules: Mapping[str, str] = field(default_factory=dict)  # go over the method's bits (`aiqvit.quant.policy`)
    forward: Callable[[nn.Module, Batch], Any] = lambda model, batch: model(batch)
    features: Callable[[nn.Module, Batch, int], Sequence[Tensor]] | None = None  # see `Task.features`
    join: Callable[[Sequence[Batch], int], Batch] = joined  # some samples as one batch (see `Task.join`)
    progress: Callable[..., Iterable] = _plain  # progress(items, description, total=None): wraps a loop in a bar
    log: list[dict] = field(default_factory=list)  # one entry a unit; stored in the run's record
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    shared: Shared = field(default_factory=Shared)
    memory: Callable[[], float | None] = lambda: None  # peak in MiB since it was asked last, where somebody measures
    teacher: nn.Module | None = None  # what to compare with where `model` was rewritten into another function
    bf16: bool = False  # units are trained with products in bfloat16
    rewritten: list[str] = field(default_factory=list)  # what was rewritten before quantization, what was not and why

    @cached_property
    def generator(self) -> Generator:
        """Random order of samples, seeded by `seed`; a run that goes on after a kill gets it back as it was."""
        from torch import Generator

        return Generator().manual_seed(self.seed)

    @cached_property
    def noise(self) -> Generator:
        """Random starts and random dropping, seeded by `seed`, on the device of the model."""
        from torch import Generator

        device = next((p.device for p in self.model.parameters()), "cpu")
        return Generator(device).manual_seed(self.seed)


@dataclass(frozen=True)
class Method:
    """A way to quantize: a frozen dataclass whose fields are its hyper-parameters.

    A subclass sets `title` (the name in tables), `images` (how many calibration images it wants) and
    implements `quantize`. `presets` maps `smoke`, `quick`, `paper` to the fields that they change, `grids` the name of
    an ablation (`--grid NAME`) to variants of the method, each as typed between brackets, "" the method as it is.
    The type of a field may have bounds (`aiqvit.bounds`): a value out of them is a `UserError` when the method is made.
    `rotate` is a switch of every method (`aiqvit.recon.rewriting`), which needs to know nothing of it.
    """

    title: ClassVar[str]
    note: ClassVar[str] = ""  # printed under every table, for example "reimplementation, unverified"
    fairness: ClassVar[str] = ""  # printed there: what is published and `unified` has not, "a scale a token"
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    grids: ClassVar[dict[str, tuple[str, ...]]] = {}
    only_in_grids: ClassVar[bool] = False  # not among `--method all`
    version: ClassVar[int] = 1  # raise it when the numbers change; tests/reference.csv catches who forgets
    images: int = field(init=False)  # a subclass says how many
    rotate: bool = field(default=False, kw_only=True)  # residual stream and heads by Hadamard matrices, before all else

    def __post_init__(self) -> None:
        """Check the fields against their types; a method with a `__post_init__` of its own calls this one first."""
        from aiqvit.settings import check_fields  # here, because it stands on this module

        check_fields(self)

    def quantize(self, job: Job) -> nn.Module:
        """Return the quantized model, ready to evaluate; may change `job.model` in place.

        Raises `Diverged` when a loss or an output is not finite.
        """
        raise TypeError(f"{type(self).__name__} does not implement quantize(job)")


@dataclass(frozen=True)
class Trained(Method):
    """A method that trains units by gradients (`aiqvit.recon.loop`), in float32 or with products in bfloat16."""

    bf16: bool = field(default=False, kw_only=True)  # matrix products while units train; all else stays in float32
