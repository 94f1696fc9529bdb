"""COCO detection and instance segmentation: Mask R-CNN and Cascade Mask R-CNN with Swin, through MMDetection 3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aiqvit.tasks.checkpoints.bounds import check_classes
from aiqvit.tasks.checkpoints.containers import alone
from aiqvit.tasks.content import combined, digest, digests
from aiqvit.tasks.detection.precision import average_precision
from aiqvit.tasks.mini import check_home
from aiqvit.tasks.texts import expanded
from aiqvit.tasks.weights import checksum, load_state, read_checkpoint
from PIL.Image import Image
from torch import Tensor, nn

from aiqvit.interfaces import DataIdentity, Diverged, Labelled, Outcomes, Subject, Task, UserError
from aiqvit.io.names import file_name
from aiqvit.registry import choose

TOGETHER = 8  # real images in one calibration pass, all of one size: a map of the first stage has 67,000 tokens
HEAD8 = "_head8"  # ending of a model's name: class, box and mask predictors get 8 bits whatever the others get


class Coco(Task):
    """`train2017/*` to calibrate on, `val2017/*` and `annotations/instances_val2017.json` to evaluate on.

    Images keep their own sizes: a batch is one image, and a few on the embedded data, where all are alike.
    """

    name = "coco"
    metrics = ("box_ap", "mask_ap")  # `score` also gives both with _50, _75, _s, _m, _l
    version = 2
    draws = 100  # enough for a standard deviation; a draw of 5,000 images with 36 detections each takes 0.2 s
    digits = 1  # as COCO's tools print them
    headlines = 2
    folder = "data/coco"

    def __init__(self, data: str | None = None, strict: bool = False) -> None:
        """See `Task`. Images are read when needed; a broken one is an error whatever `strict` says.

        The annotations are checked here.
        """
        _import_mmdet()
        from aiqvit.tasks.detection import data as files
        from aiqvit.tasks.detection.models import MODELS
        from mmdet.datasets import CocoDataset

        if data is None:
            data = self.folder if Path(self.folder).is_dir() else "mini"
        if data == "mini":
            from aiqvit.tasks.mini import coco as mini

            self._mini, self.models, self.batch = mini, mini.MODELS, mini.BATCH
            self._files = files.CocoFolder(mini.prepare(), mini.NAMES, (mini.SIDE, mini.SIDE))
            self._limits = mini.LIMITS
        else:
            self._mini, self.models, self.batch = None, MODELS, 1
            self._files = files.CocoFolder(expanded(data), CocoDataset.METAINFO["classes"], (1333, 800))
            self._limits = {"images": 256, "batch": 1, "init_images": 1}
        self._empty = 0  # images evaluated, where there is nothing to find in any of them
        self.label = "coco-mini" if self._mini else "coco"
        self.train_images, self.val_images = len(self._files.train), len(self._files.val)

    def limits(self, preset: str) -> dict[str, int]:
        """Images of different sizes go one by one; the embedded ones are fewer, to be done in minutes."""
        return self._limits

    def resolve(self, pattern: str) -> list[str]:
        """`all` means the four detectors of the paper, or the two mini ones; NAME_head8 has predictors of 8 bits."""
        names = [*self.models, *(name + HEAD8 for name in self.models)]
        return list(self.models) if pattern == "all" else choose("model", pattern, names)

    def load(self, model: str, weights: str | None = None) -> Subject:
        """See `Task`. Weights are MMDetection's or those of Swin-Transformer-Object-Detection, told by their names.

        The number of classes is that of their head.
        """
        from aiqvit.tasks.detection import models
        from aiqvit.tasks.detection.checkpoints import classes_in, convert

        full = self.resolve(model)[0]
        name = full.removesuffix(HEAD8)
        if weights is None and not self._mini:
            raise UserError(f"no weights for {name!r} here: give --weights FILE, from MMDetection's model zoo or from "
                            "Swin-Transformer-Object-Detection")
        source = weights or str(self._mini.weights(name))
        state, notes = read_checkpoint(source)
        state, more = alone(state, {})
        if self._mini:
            net = self._mini.detector(name)
        else:
            self._files.fit(count := classes_in(state, source), source)
            net = models.build(models.config(name, count))
        state, others = alone(state, net.state_dict())
        load_state(net, convert(state, net), source)
        models.prepare(net)
        rules = {"head": "8"} if full.endswith(HEAD8) else {}
        recipe = {"builder": self.name, "model": name} | ({} if self._mini else {"classes": count})
        return Subject(full, net, None, checksum(net), rules, notes=(*notes, *more, *others), recipe=recipe)

    @classmethod
    def rebuild(cls, recipe: Mapping[str, Any]) -> nn.Module:
        """See `Task`: one of the detectors, with as many classes as the recipe has, or one of the mini ones."""
        _import_mmdet()
        from aiqvit.tasks.detection import models
        from aiqvit.tasks.mini import coco as mini

        name, count = recipe["model"], recipe.get("classes")
        if count is None:
            return models.prepare(mini.detector(name))
        check_classes(count, f"a recipe of {name!r}")
        if name not in models.MODELS:
            raise ValueError(f"{name!r} is none of {', '.join(models.MODELS)}")
        return models.prepare(models.build(models.config(name, count)))

    def take(self, subject: Subject) -> Subject:
        """See `Task`."""
        count = subject.recipe.get("classes")
        check_home(subject.name, count is None, self._mini is not None)
        if count is not None:
            self._files.fit(count, subject.name)
        return subject

    def calibration(self, subject: Subject, images: int, seed: int, explicit: bool = False) -> list[list[dict]]:
        """Training images in the test pipeline, drawn by `seed`; a batch is a list of samples of one size."""
        if explicit and images > self.train_images:
            raise UserError(f"{images} calibration images asked, but there are only {self.train_images}")
        samples = [self._files.sample(path) for path in self._drawn(images, seed)]
        return [samples[i : i + self.batch] for i in range(0, len(samples), self.batch)]

    def _drawn(self, images: int, seed: int) -> list[Path]:
        order = torch.randperm(self.train_images, generator=torch.Generator().manual_seed(seed)).tolist()
        return [self._files.train[i] for i in order[:images]]

    def forward(self, model: nn.Module, batch: list[dict]) -> list[Tensor]:
        """All raw outputs of the detector: see `aiqvit.tasks.detection.forward`."""
        from aiqvit.tasks.detection.forward import raw_outputs

        return raw_outputs(model, batch)

    def features(self, model: nn.Module, batch: list[dict], regions: int) -> list[Tensor]:
        """See `Task`: what the predictors of box and mask heads get, of at most so many regions an image."""
        from aiqvit.tasks.detection.forward import roi_features

        return roi_features(model, batch, regions)

    def deployable(self, model: nn.Module, batch: list[dict]) -> tuple[nn.Module, Tensor]:
        """Backbone and neck, for pictures of the size that these have: see `aiqvit.tasks.detection.forward`."""
        from aiqvit.tasks.detection.forward import Features, pixels

        return Features(model), pixels(model, batch)

    def join(self, batches: Sequence[list[dict]], count: int) -> list[dict]:
        """Of the first `count` samples those that have the commonest size, at most `TOGETHER` on real images."""
        from aiqvit.tasks.detection.forward import of_one_size

        return of_one_size(batches, count)[: None if self._mini else TOGETHER]

    def labelled(self, subject: Subject, chosen: Sequence[int], batch_size: int) -> Iterator[Labelled]:
        """See `Task`: targets are the ids of the images."""
        files = self._files
        for start in range(0, len(chosen), batch_size):
            part = chosen[start : start + batch_size]
            ids = [files.ids[i] for i in part]
            yield Labelled([files.name(i) for i in part],
                           [files.sample(files.val[i], files.ids[i]) for i in part], ids)

    def predict(self, model: nn.Module, inputs: list[dict], device: str) -> list[dict[str, Any]]:
        """What MMDetection's `test_step` gives. Raises `Diverged` for NaN or infinity.

        A prediction is a DetDataSample as a dictionary, its masks run-length encoded.
        """
        from aiqvit.tasks.detection.forward import collate
        from mmdet.structures.mask import encode_mask_results

        found, hooks = [], [m.register_forward_hook(_check_finite)
                            for n, m in model.named_modules() if n == "neck" or n.endswith(("fc_cls", "fc_reg"))]
        try:
            for sample in model.test_step(collate(inputs)):
                predicted = sample.to_dict()
                predicted["pred_instances"] = instances = dict(sample.pred_instances.to_dict())
                instances["masks"] = encode_mask_results(instances["masks"].cpu().numpy())
                found.append(predicted)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def judge(self, outputs: list[dict[str, Any]], batch: Labelled, plain: Any) -> dict[str, np.ndarray]:
        """See `aiqvit.tasks.detection.matching.matched`."""
        return self._files.matched(outputs, batch.targets)

    @classmethod
    def score(cls, outcomes: Outcomes, weights: np.ndarray) -> dict[str, np.ndarray]:
        """`box_ap` and `mask_ap` in percent, each also with _50, _75, _s, _m, _l."""
        return average_precision(outcomes, weights)

    @torch.no_grad()
    def draw(self, model: nn.Module, subject: Subject, folder: Path, count: int, device: str) -> None:
        """A picture an image: what full precision predicts on the left, what `model` predicts on the right."""
        from aiqvit.tasks.detection.pictures import side_by_side

        chosen = self.chosen(count)
        batches = list(self.labelled(subject, chosen, 1))
        folder.mkdir(parents=True, exist_ok=True)
        both = [[self.predict(net, batch.inputs, device)[0] for batch in batches]
                for net in (subject.model.to(device).eval(), model.to(device).eval())]
        subject.model.cpu()
        for i, pair in zip(chosen, zip(*both, strict=True), strict=True):
            path = self._files.val[i]
            side_by_side(path, pair, self._files.classes).save(folder / file_name(f"{path.stem}.png"))

    def picture(self, said: Sequence[Outcomes]) -> Image:
        """See `Task`: boxes with classes and scores, of the first run on the left."""
        from aiqvit.tasks.detection.pictures import boxes_side_by_side

        wanted = said[0].samples[0]
        index = next((i for i in range(self.val_images) if self._files.name(i) == wanted), None)
        if index is None:
            raise UserError(f"there is no {wanted!r} in the data: name the folder that the runs were evaluated on")
        return boxes_side_by_side(self._files.val[index], [outcomes.arrays for outcomes in said], self._files.classes)

    def identity(self, images: int, seed: int, limit: int | None, explicit: bool = False) -> DataIdentity:
        """See `Task`: the whole annotations file counts, of the pictures those that are read."""
        files, drawn = self._files, self._drawn(images, seed)
        chosen = self.chosen(limit)
        self._empty = len(chosen) if self._files.content.scored() and not self._files.content.scored(
            files.ids[i] for i in chosen) else 0
        evaluated = digests([files.val[i] for i in chosen])
        return DataIdentity(combined([*files.classes, digest(files.annotations), *evaluated]),
                            combined(path.name for path in files.train) if drawn else "", combined(digests(drawn)))

    def fingerprint(self) -> dict[str, Any]:
        """`train` and `val` counts, `notes`; `skipped` is empty: a broken file is an error."""
        return {"train": self.train_images, "val": self.val_images, "skipped": [], "notes": self.notes()}

    def notes(self) -> list[str]:
        """See `Task`: what of the annotations was defaulted or left out, and whether there is nothing to score."""
        said = f"nothing to score in the {self._empty} images evaluated, so that every metric is undefined, shown as -"
        return [*self._files.content.remarks, *([said] if self._empty else [])]


def _check_finite(_: nn.Module, __: tuple, output: Any) -> None:
    for tensor in output if isinstance(output, tuple) else (output,):
        if not torch.isfinite(tensor).all():
            raise Diverged("the detector's features are not finite")


def _import_mmdet() -> None:
    from aiqvit.tasks.detection.ops import install

    try:
        install()
    except ImportError as error:
        raise UserError(f"the task coco needs MMDetection ({error}): pip install 'aiqvit[detection]'") from error
