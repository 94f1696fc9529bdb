"""ImageNet-1k classification with timm's ViT, DeiT and Swin, in the standard folder layout."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import timm
import torch
from aiqvit.tasks.content import combined, digests
from aiqvit.tasks.images import Loader, Sample, list_samples
from aiqvit.tasks.weights import checksum, hub_file, load_state, read_state
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from torch import nn

from aiqvit.families.family import find, unknown_network
from aiqvit.families.opening import unit_names
from aiqvit.interfaces import DataIdentity, Diverged, Subject, Task, UserError
from aiqvit.registry import choose, unknown

TAGS = {  # explicit tags: what a bare timm name means has changed between timm versions
    "deit_tiny": "deit_tiny_patch16_224.fb_in1k",
    "deit_small": "deit_small_patch16_224.fb_in1k",
    "deit_base": "deit_base_patch16_224.fb_in1k",
    "vit_tiny": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit_small": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_base": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "swin_tiny": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_small": "swin_small_patch4_window7_224.ms_in1k",
    "swin_base": "swin_base_patch4_window7_224.ms_in22k_ft_in1k",
}
PAPER = ("deit_tiny", "deit_small", "deit_base", "vit_small", "vit_base", "swin_small", "swin_base")
FIRST = 32  # images in a calibration batch; RepQ-ViT calibrates on the first one


class ImageNet(Task):
    """`train/<wnid>/*` to calibrate on, `val/<wnid>/*` to evaluate on; classes without a folder are fine."""

    name = "imagenet"
    metrics = ("top1", "top5")
    folder = "data/imagenet"

    def __init__(self, data: str | None = None, strict: bool = False) -> None:
        """See `Task`. A broken image is skipped and named in `fingerprint`; under `strict` it raises `UserError`."""
        if data is None:
            data = self.folder if Path(self.folder).is_dir() else "mini"
        self.mini = data == "mini"
        if self.mini:
            from aiqvit.tasks.mini import imagenet as mini

            self._mini, root, wnids = mini, mini.prepare(), mini.SYNSETS
        else:
            root, wnids = Path(data), ImageNetInfo().label_names()
        self.label = "imagenet-mini" if self.mini else "imagenet"
        self.models = tuple(self._mini.MODELS) if self.mini else PAPER
        self.strict, self._broken = strict, []
        self._cache: tuple[Any, torch.Tensor] | None = None
        _check_layout(root)
        classes = {wnid: index for index, wnid in enumerate(wnids)}
        self._train, self._val = list_samples(root / "train", classes), list_samples(root / "val", classes)
        self.train_images, self.val_images = len(self._train), len(self._val)

    def resolve(self, pattern: str) -> list[str]:
        """`all` means the paper's seven models, or the mini ones; any timm model is accepted by name."""
        names = list(self.models) + ([] if self.mini else [n for n in TAGS if n not in self.models])
        if pattern == "all":
            return list(self.models)
        if not self.mini and pattern not in names and timm.is_model(pattern):
            _check_timm_name(pattern)
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
            state = read_state(source)
        else:
            net = timm.create_model(TAGS.get(name, name))
            if find(type(net), "describer") is None:
                raise unknown_network(net, repr(name))
            source = weights or str(_pretrained(name, net.pretrained_cfg))
            state = _timm_keys(read_state(source), net)
        load_state(net, state, source)
        net.eval().requires_grad_(False)
        return Subject(name, net, unit_names(net), checksum(net))

    def calibration(self, subject: Subject, images: int, seed: int, explicit: bool = False) -> list[torch.Tensor]:
        """Batches of at most 32 images (B, 3, H, W), drawn by `seed` from the sorted training list."""
        if explicit and images > self.train_images:
            raise UserError(f"{images} calibration images asked, but there are only {self.train_images}")
        key = (subject.name, seed)
        if self._cache is None or self._cache[0] != key or len(self._cache[1]) < min(images, self.train_images):
            self._cache = key, self._first_good(self._shuffled(seed), images, subject)
        return list(self._cache[1][:images].split(FIRST))

    def _shuffled(self, seed: int) -> list[Sample]:
        order = torch.randperm(self.train_images, generator=torch.Generator().manual_seed(seed)).tolist()
        return [self._train[i] for i in order]

    def _evaluated(self, limit: int | None) -> list[Sample]:
        count = min(limit or self.val_images, self.val_images)
        return [self._val[i * self.val_images // count] for i in range(count)]

    def _first_good(self, samples: list[Sample], images: int, subject: Subject) -> torch.Tensor:
        loader, parts, count = Loader(self._transform(subject), self.strict, self._broken), [], 0
        with contextlib.closing(loader.batches(samples, FIRST)) as batches:
            for part, _ in batches if images else ():
                parts.append(part)
                count += len(part)
                if count >= images:
                    break
        if images and not parts:
            raise UserError(f"none of the {self.train_images} training images can be read")
        return torch.cat(parts) if parts else torch.empty(0)

    @torch.inference_mode()
    def evaluate(
        self,
        model: nn.Module,
        subject: Subject,
        *,
        limit: int | None,
        batch_size: int,
        device: str,
        progress: Callable[..., Iterable],
    ) -> dict[str, float]:
        """`top1` and `top5` in percent, `images` evaluated, `skipped` broken; `limit` takes evenly spaced images."""
        samples = self._evaluated(limit)
        model = model.to(device).eval()
        loader, ranks = Loader(self._transform(subject), self.strict, self._broken), []
        steps = -(-len(samples) // batch_size)
        for images, labels in progress(loader.batches(samples, batch_size), "evaluate", total=steps):
            logits = model(images.to(device)).float().cpu()  # (B, classes)
            if not torch.isfinite(logits).all():
                raise Diverged("the model's logits are not finite")
            own = logits.gather(1, labels[:, None])  # (B, 1)
            tied = (logits == own) & (torch.arange(logits.shape[1]) < labels[:, None])  # or equal outputs score
            ranks.append(((logits > own) | tied).sum(1))  # how many classes come before the right one
        if not ranks:
            raise UserError(f"none of the {len(samples)} validation images can be read")
        rank = torch.cat(ranks)
        top1, top5 = (100 * (rank < k).double().mean().item() for k in (1, 5))
        return {"top1": top1, "top5": top5, "images": len(rank), "skipped": len(samples) - len(rank)}

    def identity(self, images: int, seed: int, limit: int | None, explicit: bool = False) -> DataIdentity:
        """See `Task`. What takes the place of a broken picture in a draw counts by its name only."""
        drawn, evaluated = [path for path, _ in self._shuffled(seed)[:images]], self._evaluated(limit)
        contents = digests([path for path, _ in evaluated])
        return DataIdentity(
            combined(f"{content} {label}" for content, (_, label) in zip(contents, evaluated, strict=True)),
            combined(f"{path.parent.name}/{path.name}" for path, _ in self._train) if drawn else "",
            combined(digests(drawn)),
        )

    def example(self, subject: Subject) -> torch.Tensor:
        """See `Task`."""
        side = 64 if self.mini else None
        size = (3, side, side) if side else resolve_data_config({}, model=subject.model)["input_size"]
        return torch.zeros(1, *size)

    def fingerprint(self) -> dict[str, Any]:
        """`train` and `val` counts, `skipped`: broken files met so far."""
        return {"train": self.train_images, "val": self.val_images, "skipped": sorted(self._broken)}

    def _transform(self, subject: Subject) -> Callable:
        if self.mini:
            return self._mini.transform(subject.name)
        return create_transform(**resolve_data_config({}, model=subject.model), is_training=False)


def _check_layout(root: Path) -> None:
    wanted = f"looked for {str(root / 'train')!r} and {str(root / 'val')!r} with a folder per class (n01440764, ...)"
    if not root.is_dir():
        raise UserError(f"data folder {str(root)!r} does not exist: {wanted}")
    for part in (root / "train", root / "val"):
        if not part.is_dir():
            raise UserError(f"data folder {str(root)!r} has no folder {part.name!r}: {wanted}")
        if not any(entry.is_dir() for entry in part.iterdir()):
            raise UserError(f"data folder {str(part)!r} has no class folders: {wanted}")


def _check_timm_name(name: str) -> None:
    try:
        config = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise UserError(f"model {name!r}: {error}") from error
    if config is not None and config.num_classes != 1000:
        raise UserError(f"model {name!r} has {config.num_classes} classes instead of ImageNet's 1000")


def _pretrained(name: str, config: dict[str, Any]) -> Path:
    repository = config.get("hf_hub_id")
    if not repository:
        raise UserError(f"timm has no pretrained weights for {name!r}: give --weights FILE")
    return hub_file(repository, config.get("hf_hub_filename") or "model.safetensors")


def _timm_keys(state: dict[str, torch.Tensor], net: nn.Module) -> dict[str, torch.Tensor]:
    """Rename the keys of the authors' own checkpoints to timm's, when they differ."""
    if state.keys() == net.state_dict().keys():
        return state
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    try:
        return convert(state, net) if convert else state
    except (KeyError, AttributeError, RuntimeError, ValueError, IndexError):
        return state  # so foreign that the converter gives up: load_state names the keys
