"""What a contributor implements: a `Task` (data, models, metric) or a `Method` (how to quantize).

Both are found by name through `aiqvit.registry`; nothing else has to know them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from aiqvit.samples import Batch, joined

if TYPE_CHECKING:  # listing names and printing help must not import torch
    from pathlib import Path

    from torch import Generator, nn


class UserError(ValueError):
    """The user asked for something that cannot be done: one clear sentence, exit code 2."""


class NotHere(UserError):
    """Weights that would have to be fetched, asked for from a task that is `offline`."""


class Diverged(RuntimeError):
    """A loss or an output became NaN or infinite; the message names the unit where it happened."""


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


@dataclass
class Subject:
    """A trained model as a task hands it over."""

    name: str
    model: nn.Module  # full precision, eval mode, on the CPU
    units: tuple[str, ...] | None  # modules to reconstruct one by one; None: those that the model's family names
    checksum: str  # sha256 of the weights
    bit_rules: Mapping[str, str] = field(default_factory=dict)  # bits of single roles or layers (`aiqvit.quant.policy`)
    inputs: Mapping[str, str] = field(default_factory=dict)  # how samples are prepared, where that is not the usual way
    notes: tuple[str, ...] = ()  # what was chosen and changed to make the weights fit, a sentence each; recorded
    recipe: Mapping[str, Any] = field(default_factory=dict)  # makes the network again (`aiqvit.deploy.rebuild`)


@dataclass(frozen=True)
class DataIdentity:
    """Hexadecimal digests of what a run reads; the last two are empty when it calibrates on nothing."""

    data: str  # the samples evaluated: content, labels, annotations, class list
    train: str  # names of the list that calibration samples are drawn from
    calibration: str  # content of the samples drawn, in their order


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
    join: Callable[[Sequence[Batch], int], Batch] = joined  # some samples as one batch (see `Task.join`)
    progress: Callable[..., Iterable] = _plain  # progress(items, description, total=None): wraps a loop in a bar
    log: list[dict] = field(default_factory=list)  # one entry a unit; stored in the run's record
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

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


class Method:
    """A way to quantize: a frozen dataclass whose fields are its hyper-parameters.

    A subclass sets `title` (the name in tables), `images` (how many calibration images it wants) and
    implements `quantize`. `presets` maps `smoke`, `quick`, `paper` to the fields that they change, `grids` the name of
    an ablation (`--grid NAME`) to variants of the method, each as typed between brackets, "" the method as it is.
    The type of a field may have bounds (`aiqvit.bounds`): a value out of them is a `UserError` when the method is made.
    """

    title: ClassVar[str]
    note: ClassVar[str] = ""  # printed under every table, for example "reimplementation, unverified"
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    grids: ClassVar[dict[str, tuple[str, ...]]] = {}
    version: ClassVar[int] = 1  # raise it when the numbers change; tests/reference.csv catches who forgets
    images: int

    def __post_init__(self) -> None:
        """Check the fields against their types; a method with a `__post_init__` of its own calls this one first."""
        from aiqvit.settings import check_fields  # here, because it stands on this module

        check_fields(self)

    def quantize(self, job: Job) -> nn.Module:
        """Return the quantized model, ready to evaluate; may change `job.model` in place.

        Raises `Diverged` when a loss or an output is not finite.
        """
        raise TypeError(f"{type(self).__name__} does not implement quantize(job)")


class Task(ABC):
    """A data set with its models and its metrics. The constructor finds and checks the data."""

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]  # keys of `evaluate`, in percent; the first is the headline
    options: ClassVar[tuple[str, ...]] = ()  # arguments of the constructor that the command line has beyond its two
    headlines: ClassVar[int] = 1  # how many of `metrics` a printed table shows
    version: ClassVar[int] = 1  # raise it when the numbers change; tests/reference.csv catches who forgets
    folder: ClassVar[str]  # where the data usually is, relative to the working directory
    offline: bool = False  # fetch nothing: `load` then raises `NotHere` for what is not on this machine
    pictures: tuple[Path, int] | None = None  # where `draw` is to write a folder a run, and how many
    label: str  # `name`, or `name-mini` on the embedded data: the two never share a table
    models: tuple[str, ...]  # the models that `--model all` means
    train_images: int  # how many samples there are to calibrate on
    val_images: int  # how many samples a full evaluation takes

    def limits(self, preset: str) -> Mapping[str, Any]:
        """Upper bounds, here, on the defaults of a method's fields such as `batch`; what the user sets is not bounded.

        0 in a bounded field means "all there is" (as in `score_images`), which the bound replaces; 0 `images` are none.
        """
        return {}

    @abstractmethod
    def __init__(self, data: str | None = None, strict: bool = False) -> None:
        """Locate the data: a folder in the official layout, "mini", or None for the usual place.

        Raises `UserError` when the folder is missing or laid out differently.
        """

    @abstractmethod
    def resolve(self, pattern: str) -> list[str]:
        """Models that a name, a glob or `all` means. Raises `UserError` with the nearest name for no match."""

    @abstractmethod
    def load(self, model: str, weights: str | None = None) -> Subject:
        """Build a model with its trained weights. Raises `UserError` for an unknown name or weights that do not fit."""

    @classmethod
    def rebuild(cls, recipe: Mapping[str, Any]) -> nn.Module:
        """The network of a `Subject.recipe` whose `builder` is this task, with random weights; reads no data."""
        raise ValueError(f"the task {cls.name!r} builds no network without its weights")

    def take(self, subject: Subject) -> Subject:
        """A subject whose network comes from a file of its own, not from `load`, ready for `evaluate`.

        Raises `UserError` where it does not fit the data.
        """
        return subject

    @abstractmethod
    def calibration(self, subject: Subject, images: int, seed: int, explicit: bool = False) -> list[Batch]:
        """Training images in the evaluation transform, drawn by `seed`, as a list of batches.

        Fewer than `images` are returned when there are no more, unless `explicit`: then `UserError`.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, subject: Subject, *, limit: int | None, batch_size: int,
                 device: str, progress: Callable[..., Iterable]) -> dict[str, float]:
        """Metrics in percent, under the keys of `metrics`, plus `images`, the number evaluated; NaN where undefined.

        Raises `Diverged` when an output is not finite.
        """

    @abstractmethod
    def identity(self, images: int, seed: int, limit: int | None, explicit: bool = False) -> DataIdentity:
        """What the samples of a run are, by their content: those `calibration` draws and `evaluate` takes.

        The arguments are theirs; where the folder is and when a file was written does not matter.
        """

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """For the record: `train` and `val`, how many samples there are, and `skipped`, broken files met so far.

        Where there are any, `notes` too.
        """

    def notes(self) -> list[str]:
        """What people have to know of the data, a sentence each: printed before the first run, kept in every record.

        What was ignored or defaulted, what is odd, how inputs are prepared.
        """
        return []

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """One forward pass on one calibration batch."""
        return model(batch)

    def join(self, batches: Sequence[Batch], count: int) -> Batch:
        """Some of the first `count` samples as one batch: all of them, unless samples differ in size."""
        return joined(batches, count)

    def example(self, subject: Subject) -> Batch | None:
        """A batch of one sample of the model's input size without reading any data, or None where that is not known."""
        return None

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, Batch]:
        """What of a model can become an ONNX file, and its inputs for a calibration batch: usually the model itself.

        Raises `UserError` where nothing can.
        """
        return model, batch

    def draw(self, model: nn.Module, subject: Subject, folder: Path, count: int, device: str) -> None:
        """Write pictures of `count` samples to `folder`: predictions of the subject's model and of this one."""
        raise UserError(f"the task {self.name!r} draws no pictures")
