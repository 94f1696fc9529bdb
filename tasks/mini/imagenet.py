"""Mini ImageNet: procedural pictures in ImageNet's folder layout, and three small trained vision transformers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from aiqvit.tasks.cache import folder_once
from aiqvit.tasks.mini.shapes import CLASSES, SIZE, draw
from PIL import Image
from safetensors.torch import load_file
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision import transforms
from tqdm import tqdm

VERSION = 2  # of the pictures: raise it whenever the pixels change
SYNSETS: tuple[str, ...] = tuple(f"n{90000001 + i}" for i in range(CLASSES))
PER_CLASS = {"train": 52, "val": 50}  # pictures a class, 1,040 and 1,000 in all
DIFFICULTY = (0.5, 1.0)  # range of the stored pictures; training also sees easier ones
STREAMS = {"train": 0, "val": 1, "training pool": 2}  # independent random streams: no picture is in two of them

_VIT = dict(img_size=SIZE, patch_size=8, num_classes=CLASSES, embed_dim=96, depth=6, num_heads=3, weight_init="jax")
_SWIN = dict(img_size=SIZE, patch_size=4, num_classes=CLASSES, embed_dim=32, depths=(2, 2, 2), num_heads=(2, 4, 8))
_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "mini_vit": lambda: VisionTransformer(**_VIT),
    "mini_deit": lambda: VisionTransformerDistilled(**_VIT),
    "mini_swin": lambda: SwinTransformer(**_SWIN, window_size=4, drop_path_rate=0.0),
}
MODELS: tuple[str, ...] = tuple(_BUILDERS)
_IMAGENET_STATS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std of RGB in 0..1
STATS = {"mini_vit": ((0.5,) * 3, (0.5,) * 3), "mini_deit": _IMAGENET_STATS, "mini_swin": _IMAGENET_STATS}


def generator(stream: str) -> np.random.Generator:
    """The seeded random source of one of ``STREAMS``."""
    return np.random.default_rng([VERSION, STREAMS[stream]])


def prepare() -> Path:
    """Write the pictures unless they are there, and return the folder that holds ``train/<wnid>`` and ``val/<wnid>``.

    They go to the cache, see ``aiqvit.tasks.cache``.
    """
    return folder_once(f"mini-imagenet-v{VERSION}", _write)


def _write(root: Path) -> None:
    """Draw every picture into ``root``, class by class."""
    with tqdm(total=CLASSES * sum(PER_CLASS.values()), desc="mini-imagenet", unit="img", delay=1) as bar:
        for split, count in PER_CLASS.items():
            rng = generator(split)
            for label, wnid in enumerate(SYNSETS):
                folder = root / split / wnid
                folder.mkdir(parents=True)
                for i, pixels in enumerate(draw(np.full(count, label), rng.uniform(*DIFFICULTY, count), rng)):
                    Image.fromarray(pixels).save(folder / f"{wnid}_{split}_{i:04d}.png", compress_level=3)
                bar.update(count)


def build(name: str) -> nn.Module:
    """One of ``MODELS`` with random weights, in evaluation mode: images (B, 3, 64, 64) to logits (B, 20)."""
    if name not in _BUILDERS:
        raise KeyError(f"unknown mini model {name!r}; there are {', '.join(MODELS)}")
    return _BUILDERS[name]().eval()


def weights(name: str) -> Path:
    """Path of the trained weights of one of ``MODELS``: safetensors in float16, which load into ``build(name)``."""
    return Path(__file__).parent / "weights" / f"{name}.safetensors"


def load(name: str) -> nn.Module:
    """``build(name)`` with its trained weights, in float32."""
    model = build(name)
    model.load_state_dict(load_file(weights(name)), strict=True)
    return model


def transform(name: str) -> Callable[[Image.Image], Tensor]:
    """Evaluation transform of one of ``MODELS``: a 64 x 64 RGB picture to a normalised float tensor (3, 64, 64)."""
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(*STATS[name])])


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, batch: int = 250) -> Tensor:
    """Predicted classes (N,) int64 of normalised images (N, 3, 64, 64)."""
    return torch.cat([model(part).argmax(1) for part in images.split(batch)])
