"""What a contributor implements: a `Task` (data, models, metric) or a `Method` (how to quantize).

Both are found by name through `aiqvit.registry`; nothing else has to know them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # listing names and printing help must not import torch
    from pathlib import Path

    from torch import Generator, nn

Batch = Any  # whatever the task's models take as one input, usually a tensor (B, 3, H, W)


class UserError(ValueError):
    """The user asked for something that cannot be done: one clear sentence, exit code 2."""


class Diverged(RuntimeError):
    """A loss or an output became NaN or infinite; the message names the unit where it happened."""


@dataclass(frozen=True)
class Bits:
    """Bit widths of weights and of activations, each in 2..8; 32/32 means full precision."""

    weight: int
    activation: int

    @classmethod
    def parse(cls, text: str) -> Bits:
        """Read `"4/4"` as weights/activations. Raises `UserError` outside 2..8."""
        parts = text.strip().split("/")
        if len(parts) != 2 or not all(p.isdecimal() and 2 <= int(p) <= 8 for p in parts):
            raise UserError(f"bits {text!r}: expected weights/activations, each from 2 to 8, for example 4/4")
        return cls(int(parts[0]), int(parts[1]))

    def __str__(self) -> str:
        return f"{self.weight}/{self.activation}"


@dataclass
class Subject:
    """A trained model as a task hands it over."""

    name: str
    model: nn.Module  # full precision, eval mode, on the CPU
    units: tuple[str, ...]  # names of the modules to reconstruct one by one, in forward order
    checksum: str  # sha256 of the weights


def _plain(items: Iterable, description: str = "", total: int | None = None) -> Iterable:
    return items


class Checkpoint:
    """Where a run keeps the units that it has finished, in case that it is killed. This one keeps nothing."""

    seconds: float = 0.0  # that earlier processes spent on what was loaded

    def load(self, unit: str) -> dict[str, Any] | None:
        """What was saved under a unit's name, or None. Asked for in the order of `save`, before anything is saved."""
        return None

    def save(self, unit: str, state: dict[str, Any]) -> None:
        """Keep tensors and plain values; `log` in it is the unit's entry for the record."""


@dataclass
class Job:
    """All that a method gets: a model to change in place, data to calibrate on, bits, a seed."""

    model: nn.Module
    units: Sequence[str]
    calibration: Sequence[Batch]
    bits: Bits
    seed: int = 0
    forward: Callable[[nn.Module, Batch], Any] = lambda model, batch: model(batch)
    progress: Callable[..., Iterable] = _plain  # progress(items, description, total=None): wraps a loop in a bar
    log: list[dict] = field(default_factory=list)  # one entry a unit; stored in the run's record
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

    @cached_property
    def generator(self) -> Generator:
        """Random numbers of the method, seeded by `seed`; a run that goes on after a kill gets it back as it was."""
        from torch import Generator

        return Generator().manual_seed(self.seed)


class Method:
    """A way to quantize: a frozen dataclass whose fields are its hyper-parameters.

    A subclass sets `title` (the name in tables), `images` (how many calibration images it wants) and
    implements `quantize`. `presets` maps `smoke`, `quick`, `paper` to the fields that they change, `grids` the name of
    an ablation (`--grid NAME`) to variants of the method, each as typed between brackets, "" the method as it is.
    """

    title: ClassVar[str]
    note: ClassVar[str] = ""  # printed under every table, for example "reimplementation, unverified"
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    grids: ClassVar[dict[str, tuple[str, ...]]] = {}
    images: int

    def quantize(self, job: Job) -> nn.Module:
        """Return the quantized model, ready to evaluate; may change `job.model` in place.

        Raises `Diverged` when a loss or an output is not finite.
        """
        raise TypeError(f"{type(self).__name__} does not implement quantize(job)")


class Task(ABC):
    """A data set with its models and its metrics. The constructor finds and checks the data."""

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]  # keys of `evaluate`, in percent; the first is the headline
    headlines: ClassVar[int] = 1  # how many of `metrics` a printed table shows
    folder: ClassVar[str]  # where the data usually is, relative to the working directory
    pictures: tuple[Path, int] | None = None  # where `draw` is to write a folder a run, and how many
    label: str  # `name`, or `name-mini` on the embedded data: the two never share a table
    models: tuple[str, ...]  # the models that `--model all` means
    train_images: int  # how many samples there are to calibrate on
    val_images: int  # how many samples a full evaluation takes

    def limits(self, preset: str) -> Mapping[str, Any]:
        """The most that a field of a method, such as `images` or `batch`, is by default here."""
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

    @abstractmethod
    def calibration(self, subject: Subject, images: int, seed: int, explicit: bool = False) -> list[Batch]:
        """Training images in the evaluation transform, drawn by `seed`, as a list of batches.

        Fewer than `images` are returned when there are no more, unless `explicit`: then `UserError`.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, subject: Subject, *, limit: int | None, batch_size: int,
                 device: str, progress: Callable[..., Iterable]) -> dict[str, float]:
        """Metrics in percent, under the keys of `metrics`, plus `images`, the number evaluated.

        Raises `Diverged` when an output is not finite.
        """

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data: `checksum` (of the file list, wherever the folder is), counts, skipped files."""

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """One forward pass on one calibration batch."""
        return model(batch)

    def draw(self, model: nn.Module, subject: Subject, folder: Path, count: int, device: str) -> None:
        """Write pictures of `count` samples to `folder`: predictions of the subject's model and of this one."""
        raise UserError(f"the task {self.name!r} draws no pictures")
