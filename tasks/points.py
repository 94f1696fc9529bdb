"""What the two point-cloud tasks share: shapes in text files, a Point Transformer, calibration and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from aiqvit.tasks import held_out as aside
from aiqvit.tasks.checkpoints.containers import alone
from aiqvit.tasks.content import combined, digests
from aiqvit.tasks.models.point_transformer import PointTransformer
from aiqvit.tasks.models.point_weights import Sizes, build, own_keys, sizes
from aiqvit.tasks.point_facts import Facts
from aiqvit.tasks.point_lists import Shape
from aiqvit.tasks.point_pictures import drawn
from aiqvit.tasks.point_reader import PointReader
from aiqvit.tasks.texts import expanded
from aiqvit.tasks.weights import checksum, load_state, read_checkpoint
from PIL.Image import Image
from torch import Tensor, nn

from aiqvit.evaluation import outcomes
from aiqvit.interfaces import DataIdentity, Labelled, Outcomes, Subject, Task, UserError
from aiqvit.io.structure import checked
from aiqvit.io.text import missing
from aiqvit.registry import choose

POINTS = 1024  # of a shape, taken evenly spaced from its file
CALIBRATION = 512  # shapes at most, as in the AIQViT paper, unless more are asked for
FIRST = 32  # shapes in a calibration batch
QUICK = {"images": 256, "batch": 2, "init_images": 32, "score_images": 2}  # a shape has five times an image's tokens
PIECE = 1024  # points that a CPU evaluates at once: larger tensors leave its cache, at twice the time
MODEL = "point_transformer"


class PointTask(PointReader, Task):
    """A subclass lists its files in `__init__`, `self.train`, `self.held_out` and `self.val`, and its `self.names`.

    Then it calls `_look`, which looks at the first lines of all files: a broken one is an error whatever `strict` says;
    and at last `_set_aside`, with its argument `held_out`.
    """

    options = ("held_out",)

    kind: ClassVar[type[PointTransformer]]
    classes: int  # of the model's output
    names: tuple[str, ...]  # of the classes or categories, in order

    def _open(self, data: str | None, mini: Any, name: str) -> Path:
        """Choose between a folder and the embedded data; set what follows from that. Returns the folder or file."""
        if data is None:
            data = self.folder if Path(self.folder).is_dir() else "mini"
        self.mini = mini if data == "mini" else None
        self.points = mini.POINTS if self.mini else POINTS
        self.models = (f"mini_{MODEL}",) if self.mini else (MODEL,)
        self.label = f"{self.name}-mini" if self.mini else self.name
        root = mini.prepare(name) if self.mini else expanded(data)
        if not root.exists():
            raise UserError(missing("data folder", root))
        self.facts = Facts(self.points)
        return root

    def _set_aside(self, count: int | None, metrics: tuple[str, ...]) -> None:
        """Evaluate on so many training shapes in place of `val`, with these metrics: see `aiqvit.tasks.held_out`."""
        self.judged = count
        if count is not None:
            self.train, self.val = aside.split(self.train, count)
            self.label, self.metrics, self.headlines = aside.label(self.label), metrics, min(len(metrics), 3)

    @property
    def train_images(self) -> int:
        """Shapes to calibrate on."""
        return len(self.train)

    @property
    def val_images(self) -> int:
        """Shapes of a full evaluation."""
        return len(self.val)

    def limits(self, preset: str) -> dict[str, int]:
        """A step of `quick` sees as many tokens as one of images; the embedded shapes are small enough without."""
        return QUICK if preset == "quick" and not self.mini else {}

    def resolve(self, pattern: str) -> list[str]:
        """The one model of the data set."""
        return choose("model", pattern, self.models)

    def load(self, model: str, weights: str | None = None) -> Subject:
        """See `Task`. The sizes of the model are those of the weights; the embedded data has weights of its own."""
        name = self.resolve(model)[0]
        if weights is None and self.mini is None:
            raise UserError(f"there are no published weights for {self.name}: give --weights FILE, or train some with "
                            f"python -m aiqvit.tasks.train --task {self.name} --data DIR")
        source = weights or str(self.mini.weights(self.name))
        state, notes = read_checkpoint(source)
        state, more = alone(state, {})
        state = own_keys(state)
        net = build(state, source)
        load_state(net, state, source)
        self._fit(net, source)
        net.eval().requires_grad_(False)
        return Subject(name, net, None, checksum(net), notes=(*notes, *more),
                       recipe={"builder": self.name, **sizes(net)})

    @classmethod
    def rebuild(cls, recipe: Mapping[str, Any]) -> nn.Module:
        """See `Task`: a Point Transformer of the sizes that the recipe has."""
        return cls.kind(**checked(dict(recipe), Sizes))

    def take(self, subject: Subject) -> Subject:
        """See `Task`."""
        self._fit(subject.model, subject.name)
        return subject

    def _fit(self, net: PointTransformer, source: str) -> None:
        """Take the channels of a network. Raises `UserError` for one that does not fit the data."""
        found = (type(net), net.embed[0].in_features, net.classifier[-1].out_features)
        able = (3 + self.extra, 6 + self.extra)
        if found[0] != self.kind or found[1] not in able or not self._counts(found[2]):
            wanted = found[1] if found[1] in able else " or ".join(map(str, able))
            raise UserError(f"weights {source!r} do not fit {self.label}: a {found[0].__name__} with {found[1]} input "
                            f"channels and {found[2]} classes instead of a {self.kind.__name__} with {wanted} and "
                            f"{self.classes}")
        if found[1] == able[1] and self.flat:
            raise UserError(f"weights {source!r} take normals, but {len(self.flat)} files have only x, y, z, the first "
                            f"{str(self.flat[0])!r}: give files with normals, or weights trained without them")
        self.channels, self.classes = found[1:]

    def _counts(self, classes: int) -> bool:
        """Whether a network with that many classes or parts fits the data."""
        return classes == self.classes

    def calibration(self, subject: Subject, images: int, seed: int, explicit: bool = False) -> list[Tensor]:
        """Batches of at most 32 shapes (B, N, channels), at most 512 in all unless `explicit`, drawn by `seed`."""
        if explicit and images > self.train_images:
            raise UserError(f"{images} calibration shapes asked, but there are only {self.train_images}")
        return [points for points, _, _ in self.batches(self._drawn(images, seed, explicit), FIRST)]

    def _drawn(self, images: int, seed: int, explicit: bool) -> list[Shape]:
        images = images if explicit else min(images, CALIBRATION)
        order = torch.randperm(self.train_images, generator=torch.Generator().manual_seed(seed)).tolist()
        return [self.train[i] for i in order[:images]]

    def batches(self, shapes: Sequence[Shape], size: int) -> Iterator[tuple[Tensor, Tensor, Sequence[Shape]]]:
        """Points (B, N, channels), targets (B, ...) and the shapes themselves, in order."""
        for start in range(0, len(shapes), size):
            part = shapes[start : start + size]
            points, targets = zip(*map(self.read, part), strict=True)
            yield torch.stack(points), torch.stack(targets), part

    def labelled(self, subject: Subject, chosen: Sequence[int], batch_size: int) -> Iterator[Labelled]:
        """See `Task`: targets are the shapes with what `read` gives of each."""
        return self._labelled([self.val[i] for i in chosen], batch_size)

    def _labelled(self, shapes: Sequence[Shape], batch_size: int) -> Iterator[Labelled]:
        for points, targets, part in self.batches(shapes, batch_size):
            yield Labelled([shape_name(shape) for shape in part], points, (part, targets))

    def measure(self, model: nn.Module, shapes: Sequence[Shape], batch_size: int, device: str,
                progress: Callable[..., Iterable]) -> dict[str, float]:
        """Metrics on these shapes. Raises `Diverged` when an output is not finite."""
        batches = progress(self._labelled(shapes, batch_size), "evaluate", total=-(-len(shapes) // batch_size))
        return self.metrics_of(outcomes(self, model, batches, device), len(shapes))

    def predict(self, model: nn.Module, inputs: Tensor, device: str) -> Tensor:
        """See `Task`; a CPU takes pieces of `PIECE` points."""
        size = max(PIECE // inputs.shape[1], 1) if device == "cpu" else len(inputs)
        return torch.cat([model(piece.to(device)).float().cpu() for piece in inputs.split(size)])

    def picture(self, said: Sequence[Outcomes]) -> Image:
        """See `Task`: the points that the model is given."""
        wanted = said[0].samples[0]
        shape = next((shape for shape in self.val if shape_name(shape) == wanted), None)
        if shape is None:
            raise UserError(f"there is no {wanted!r} in the data: name the folder that the runs were evaluated on")
        return drawn(self.read(shape)[0][:, :3].numpy())

    def identity(self, images: int, seed: int, limit: int | None, explicit: bool = False) -> DataIdentity:
        """See `Task`: the classes with the evaluated files and their labels, the training list, the files drawn.

        All these are read and checked here, before the first run, and kept in the cache.
        """
        drawn = self._drawn(images, seed, explicit)
        evaluated = [self.val[i] for i in self.chosen(limit)]
        contents = shape_content(evaluated)
        self.check(list(dict.fromkeys([*evaluated, *drawn])))
        names = (shape.path.name + ("" if shape.row is None else f" {shape.row}") for shape in self.train)
        return DataIdentity(combined([*self.names, self.points, *contents]),
                            combined(names) if drawn else "",
                            combined(shape_content(drawn)))

    def fingerprint(self) -> dict[str, Any]:
        """`train` and `val` counts, `notes`; `skipped` is empty: a broken file is an error."""
        return {"train": self.train_images, "val": self.val_images, "skipped": [], "notes": self.notes()}


def shape_content(shapes: Sequence[Shape]) -> list[str]:
    """A digest and a label a shape, and its row in a file of several."""
    contents = digests([shape.path for shape in shapes])
    return [f"{content} {shape.label}" + ("" if shape.row is None else f" {shape.row}")
            for content, shape in zip(contents, shapes, strict=True)]


def shape_name(shape: Shape) -> str:
    """Folder and file of a shape, and its row in a file of several."""
    return f"{shape.path.parent.name}/{shape.path.name}" + ("" if shape.row is None else f"#{shape.row}")
