"""Classification with timm's vision transformers, of ImageNet or of own classes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from aiqvit.tasks import held_out as aside
from aiqvit.tasks import transforms
from aiqvit.tasks.checkpoints.fitting import for_timm
from aiqvit.tasks.checkpoints.nearest import classes_in
from aiqvit.tasks.classes import WNIDS
from aiqvit.tasks.classification import accuracy, said
from aiqvit.tasks.content import combined, digests
from aiqvit.tasks.folders import Sample
from aiqvit.tasks.images import Loader
from aiqvit.tasks.layout import find as find_layout
from aiqvit.tasks.mini import check_home
from aiqvit.tasks.pictures import read_rgb
from aiqvit.tasks.timm_models import PAPER, TAGS, check_timm_name, fitted
from aiqvit.tasks.weights import checksum, hub_file, load_state, read_checkpoint
from PIL.Image import Image
from timm.data import resolve_data_config
from torch import nn

from aiqvit.families.family import find, unknown_network
from aiqvit.interfaces import DataIdentity, Labelled, Outcomes, Subject, Task, UserError
from aiqvit.registry import choose, unknown

FIRST = 32  # images in a calibration batch; RepQ-ViT calibrates on the first one


class ImageNet(Task):
    """Pictures in a folder per class or in one folder with a table: see `docs/tasks/imagenet.md`."""

    name = "imagenet"
    metrics = ("top1", "top5")
    counted = ("top1", "top5", "agreement")
    taught = True
    folder = "data/imagenet"
    options = ("calib_data", "transform", "held_out")

    def __init__(self, data: str | None = None, strict: bool = False, calib_data: str | None = None,
                 transform: str | None = None, held_out: int | None = None) -> None:
        """See `Task`. A broken image is skipped and named in `fingerprint`; under `strict` it raises `UserError`.

        `calib_data` is a folder of pictures that takes the place of `train`; `transform` is as typed. So many training
        pictures are `held_out` to be evaluated on in place of the others; see `aiqvit.tasks.held_out`.
        """
        if data is None:
            data = self.folder if Path(self.folder).is_dir() else "mini"
        self.mini = data == "mini"
        root, wnids = data, None
        if self.mini:
            from aiqvit.tasks.mini import imagenet as mini

            if calib_data is not None or transform is not None:
                raise UserError("--calib-data and --transform belong to --data DIR: the embedded data has its own")
            self._mini, root, wnids = mini, str(mini.prepare()), mini.SYNSETS
        self.label = "imagenet-mini" if self.mini else "imagenet"
        self.held_out = held_out
        self.models = tuple(self._mini.MODELS) if self.mini else PAPER
        self._typed = transforms.typed(transform) if transform is not None else {}
        self.strict, self._broken = strict, {}
        self._cache: tuple[Any, torch.Tensor] | None = None
        self._layout = find_layout(root, calib_data, wnids)
        if strict and self._layout.ignored.links:
            raise UserError(f"broken image {self._layout.ignored.links[0]!r}: a link to nothing")
        self._train, self._val = [(path, -1) for path in self._layout.train], self._layout.val
        if held_out is not None:
            self._train, self._val = aside.split(self._layout.labelled_train(), held_out)
            self.label, self.metrics, self.headlines = aside.label(self.label), ("kl", "agreement", *self.metrics), 3
        self.train_images, self.val_images = len(self._train), len(self._val)
        self._notes: dict[str, list[str]] = {}  # and the next: of each model that is loaded
        self._inputs: dict[str, dict[str, str]] = {}

    def resolve(self, pattern: str) -> list[str]:
        """`all` means the paper's seven models, or the mini ones; any timm model is accepted by name."""
        names = list(self.models) + ([] if self.mini else [n for n in TAGS if n not in self.models])
        if pattern == "all":
            return list(self.models)
        if pattern not in names and (pattern in TAGS or timm.is_model(pattern)):
            check_home(pattern, False, self.mini)
            check_timm_name(pattern)
            return [pattern]
        if not self.mini and pattern not in names and not set("*?") & set(pattern):
            raise unknown("model", pattern, names)
        return choose("model", pattern, names)

    def load(self, model: str, weights: str | None = None) -> Subject:
        """See `Task`. Weights come from the file, from the mini ones, or from the hub when it can be reached."""
        name = self.resolve(model)[0]
        if self.mini:
            net = self._mini.build(name)
            source = weights or str(self._mini.weights(name))
        else:
            net = timm.create_model(TAGS.get(name, name))
            if find(type(net), "describer") is None:
                raise unknown_network(net, repr(name))
            if weights is None:  # the same as below, before anything is fetched
                self._layout.classes.outputs(net.num_classes, name)
            source = weights or str(_pretrained(name, net.pretrained_cfg, self.offline))
        state, notes = read_checkpoint(source)
        recipe: dict[str, Any] = {"builder": self.name, "model": name}
        if not self.mini:
            net, recipe = self._fitted(net, name, state, weights)
        state, more = for_timm(state, net)
        load_state(net, state, source)
        net.eval().requires_grad_(False)
        return Subject(name, net, None, checksum(net), inputs=self._inputs.get(name, {}), notes=(*notes, *more),
                       recipe=recipe)

    @classmethod
    def rebuild(cls, recipe: Mapping[str, Any]) -> nn.Module:
        """See `Task`: one of the mini models."""
        from aiqvit.tasks.mini import imagenet as mini

        return mini.build(recipe["model"])

    def take(self, subject: Subject) -> Subject:
        """See `Task`."""
        check_home(subject.name, subject.recipe.get("builder") == self.name, self.mini)
        if not self.mini:
            self._layout.classes.outputs(subject.model.num_classes, subject.name)
        return subject

    def _fitted(self, net: nn.Module, name: str, state: dict[str, torch.Tensor],
                weights: str | None) -> tuple[nn.Module, dict[str, Any]]:
        """The network with a head of as many classes as the weights have, for pictures as the transform makes them."""
        classes = self._layout.classes
        net, recipe, changed, source = fitted(net, name, classes_in(state), weights, self._typed)
        outputs = classes.outputs(net.num_classes, name)
        text = ",".join(f"{key}={value}" for key, value in changed.items())
        self._inputs[name] = {"transform": text} if text else {}
        if (classes.kind, net.num_classes) != (WNIDS, 1000):
            order = (f"{label} {output}" for label, output in zip(classes.names, outputs, strict=True))
            self._inputs[name]["classes"] = combined(order)[:16]
        prepared = f"{name}: pictures prepared with {text} ({source})" if text else ""
        self._notes[name] = [note for note in (classes.sentence(net.num_classes, name), prepared) if note]
        return net, recipe

    def calibration(self, subject: Subject, images: int, seed: int, explicit: bool = False) -> list[torch.Tensor]:
        """Batches of at most 32 images (B, 3, H, W), drawn by `seed` from the sorted training list."""
        self._check_train(images)
        if explicit and images > self.train_images:
            raise UserError(f"{images} calibration images asked, but there are only {self.train_images}")
        key = (subject.name, seed, str(subject.inputs))
        if self._cache is None or self._cache[0] != key or len(self._cache[1]) < min(images, self.train_images):
            self._cache = key, self._first_good(self._shuffled(seed), images, subject)
        return list(self._cache[1][:images].split(FIRST))

    def _check_train(self, images: int) -> None:
        if images and not self._train:
            raise UserError(f"nothing to calibrate on: {self._layout.no_train} (--method fp32 needs none)")

    def _shuffled(self, seed: int) -> list[Sample]:
        order = torch.randperm(self.train_images, generator=torch.Generator().manual_seed(seed)).tolist()
        return [self._train[i] for i in order]

    def chosen(self, limit: int | None) -> list[int]:
        """See `Task`."""
        if not self._val:
            raise UserError(f"nothing to evaluate on: {self._layout.no_val}")
        return super().chosen(limit)

    def _first_good(self, samples: list[Sample], images: int, subject: Subject) -> torch.Tensor:
        loader, parts, count = self._loader(subject), [], 0
        with contextlib.closing(loader.batches(samples, FIRST)) as batches:
            for part, _ in batches if images else ():
                parts.append(part)
                count += len(part)
                if count >= images:
                    break
        if images and not parts:
            raise UserError(f"none of the {self.train_images} training images can be read: {self._why()}")
        return torch.cat(parts) if parts else torch.empty(0)

    def _loader(self, subject: Subject) -> Loader:
        return Loader(self._transform(subject), self.strict, self._broken, self._layout.ignored.name)

    def _why(self) -> str:
        """The first picture that could not be read, and why."""
        return next((f"{name}: {reason}" for name, reason in self._broken.items()), "")

    def labelled(self, subject: Subject, chosen: Sequence[int], batch_size: int) -> Iterator[Labelled]:
        """See `Task`: targets are indices of the model's outputs."""
        outputs = self._layout.classes.outputs(subject.model.num_classes, subject.name)
        outputs = torch.tensor([*outputs, -1])  # the last for a training picture of no known class, -1 too
        samples, empty = [self._val[i] for i in chosen], True
        with contextlib.closing(self._loader(subject).batches(samples, batch_size)) as batches:
            for images, part in batches:
                names, empty = [self._layout.ignored.name(path) for path, _ in part], False
                yield Labelled(names, images, outputs[torch.tensor([label for _, label in part])])
        if empty:
            raise UserError(f"none of the {len(samples)} validation images can be read: {self._why()}")

    def judge(self, outputs: torch.Tensor, batch: Labelled, plain: torch.Tensor | None) -> dict[str, np.ndarray]:
        """See `aiqvit.tasks.classification.said`."""
        return said(outputs, batch.targets, plain)

    @classmethod
    def score(cls, outcomes: Outcomes, weights: np.ndarray) -> dict[str, np.ndarray]:
        """`top1`, `top5` and `agreement` in percent, `kl` in nats."""
        return accuracy(outcomes, weights)

    def identity(self, images: int, seed: int, limit: int | None, explicit: bool = False) -> DataIdentity:
        """See `Task`. What takes the place of a broken picture in a draw counts by its name only."""
        evaluated = [self._val[i] for i in self.chosen(limit)]
        self._check_train(images)
        drawn, classes = [path for path, _ in self._shuffled(seed)[:images]], self._layout.classes
        contents = digests([path for path, _ in evaluated])
        own = () if self.mini or classes.kind == WNIDS else (f"{classes.kind} {name}" for name in classes.names)
        root = self._layout.train_root
        return DataIdentity(
            combined([*own, *(f"{content} {label}" for content, (_, label) in zip(contents, evaluated, strict=True))]),
            combined(path.relative_to(root).as_posix() for path, _ in self._train) if drawn else "",
            combined(digests(drawn)),
        )

    def example(self, subject: Subject) -> torch.Tensor:
        """See `Task`."""
        side = 64 if self.mini else None
        size = (3, side, side) if side else resolve_data_config({}, model=subject.model)["input_size"]
        return torch.zeros(1, *size)

    def picture(self, said: Sequence[Outcomes]) -> Image:
        """See `Task`."""
        wanted = said[0].samples[0]
        path = next((path for path, _ in self._val if self._layout.ignored.name(path) == wanted), None)
        if path is None:
            raise UserError(f"there is no {wanted!r} in the data: name the folder that the runs were evaluated on")
        return read_rgb(path)

    def fingerprint(self) -> dict[str, Any]:
        """`train` and `val` counts, `skipped`: broken files met so far, `why` the first is; `ignored`, `notes`."""
        said = {"why": self._why(), "ignored": str(self._layout.ignored), "notes": self._said()}
        return {"train": self.train_images, "val": self.val_images, "skipped": sorted(self._broken),
                **{key: value for key, value in said.items() if value}}

    def notes(self) -> list[str]:
        """See `Task`: what the folders have beside pictures, and of each model the classes and the transform."""
        ignored = [str(self._layout.ignored)] if self._layout.ignored.reasons else []
        return ignored + self._said()

    def _said(self) -> list[str]:
        aside_note = [aside.note(self.held_out)] if self.held_out else []
        return aside_note + [note for notes in self._notes.values() for note in notes]

    def _transform(self, subject: Subject) -> Callable:
        if self.mini:
            return self._mini.transform(subject.name)
        return transforms.build(resolve_data_config({}, model=subject.model))


def _pretrained(name: str, config: dict[str, Any], offline: bool) -> Path:
    repository = config.get("hf_hub_id")
    if not repository:
        raise UserError(f"timm has no pretrained weights for {name!r}: give --weights FILE")
    return hub_file(repository, config.get("hf_hub_filename") or "model.safetensors", offline)
