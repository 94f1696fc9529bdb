"""What a contributor implements to add a task: data, models, and what is right about their outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from aiqvit.errors import UserError
from aiqvit.outcomes import Labelled, Outcomes
from aiqvit.samples import Batch, joined

if TYPE_CHECKING:  # listing names and printing help must not import torch
    from pathlib import Path

    import numpy as np
    from PIL.Image import Image
    from torch import Tensor, nn

    from aiqvit.evaluation import Teacher


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


class Task(ABC):
    """A data set with its models and its metrics. The constructor finds and checks the data."""

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]  # that every evaluation has, in percent; the first is the headline
    counted: ClassVar[tuple[str, ...]] = ()  # metrics that are the percentage of samples of which something holds
    taught: ClassVar[bool] = False  # whether `judge` takes full precision's outputs too
    draws: ClassVar[int] = 2000  # of the bootstrap: so many weightings does `score` get for an interval
    digits: ClassVar[int | None] = None  # behind the point, that a metric is rounded to
    batch: int | None = None  # most samples that are evaluated at once
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

    def chosen(self, limit: int | None) -> list[int]:
        """Which samples an evaluation takes, of `val_images`: all, or `limit` evenly spaced ones.

        Raises `UserError` when there is nothing to evaluate on.
        """
        count = min(limit or self.val_images, self.val_images)
        return [i * self.val_images // count for i in range(count)]

    @abstractmethod
    def labelled(self, subject: Subject, chosen: Sequence[int], batch_size: int) -> Iterator[Labelled]:
        """The chosen samples in order, in batches; one that cannot be read is left out or raises `UserError`."""

    def predict(self, model: nn.Module, inputs: Any, device: str) -> Any:
        """What a model gives for the inputs of `labelled`, on the CPU."""
        return model(inputs.to(device)).float().cpu()

    @abstractmethod
    def judge(self, outputs: Any, batch: Labelled, plain: Any) -> dict[str, np.ndarray]:
        """What the outputs of `predict` say of each sample: `Outcomes.arrays` of one batch.

        `plain` are full precision's outputs, or None: where `taught` is not set, or nobody has that model.
        """

    @classmethod
    @abstractmethod
    def score(cls, outcomes: Outcomes, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics (B,) for B weightings (B, N) of the N samples; NaN where a metric is undefined.

        A row of ones gives the metric itself, and how often each sample was drawn gives that of a resample.
        """

    def outcomes(self, model: nn.Module, subject: Subject, *, limit: int | None, batch_size: int, device: str,
                 progress: Callable[..., Iterable], teacher: Teacher | None = None) -> Outcomes:
        """What a model says of each sample; `teacher` is full precision.

        Raises `Diverged` when an output is not finite.
        """
        from aiqvit.evaluation import outcomes  # here, because it imports torch

        chosen, size = self.chosen(limit), min(batch_size, self.batch or batch_size)
        batches = progress(self.labelled(subject, chosen, size), "evaluate", total=-(-len(chosen) // size))
        return outcomes(self, model, batches, device, teacher)

    def metrics_of(self, outcomes: Outcomes, asked: int) -> dict[str, float]:
        """Metrics as `score` gives them, with `images`, how many samples there are of those asked for, and `skipped`.

        All of `metrics` are there, NaN where undefined; others only where they are defined.
        """
        scores = {name: float(values[0]) for name, values in self.score(outcomes, outcomes.once()).items()}
        found = {name: value if self.digits is None else round(value, self.digits)
                 for name, value in scores.items() if name in self.metrics or value == value}
        count = len(outcomes.samples)
        return {**found, "images": count, "skipped": asked - count}

    def evaluate(self, model: nn.Module, subject: Subject, *, limit: int | None, batch_size: int,
                 device: str, progress: Callable[..., Iterable]) -> dict[str, float]:
        """See `outcomes` and `metrics_of`."""
        found = self.outcomes(model, subject, limit=limit, batch_size=batch_size, device=device, progress=progress)
        return self.metrics_of(found, len(self.chosen(limit)))

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

    # What GLF-Q compares behind a unit, tensors whose first dimension goes through the samples in order, for example
    # features(model, batch, regions): at most so many `regions` an image. None: what the head gets.
    features: Callable[[nn.Module, Batch, int], Sequence[Tensor]] | None = None

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

    def picture(self, said: Sequence[Outcomes]) -> Image:
        """A sample that was evaluated, with what each of some runs said of it where that can be drawn, side by side.

        `said` are outcomes of that one sample. Raises `UserError` where samples are no pictures or it is not there.
        """
        raise UserError(f"the task {self.name!r} has no pictures of its samples")
