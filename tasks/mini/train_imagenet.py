"""Train the mini models from scratch: ``python -m aiqvit.tasks.mini.train_imagenet [--model NAME ...] [--steps N]``.

The pictures are drawn afresh from a random stream of their own, disjoint from what ``prepare()`` writes: neither the
train nor the val folder is seen in training. Easy pictures come first, the hardest from half of the steps on.

The gains of the LayerNorms start log-normal, and the weights behind them undo it, so that the function is unchanged.
Channels of very different ranges are what makes large trained transformers hard to quantize (in DeiT-Tiny the standard
deviation of a LayerNorm's log gain is up to 0.9); the few minutes that a mini model trains do not bring them about.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from aiqvit.tasks.mini import imagenet, shapes
from aiqvit.tasks.pictures import read_rgb
from safetensors.torch import save as to_bytes
from timm.layers import set_fused_attn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from aiqvit.io.files import write_bytes

BATCH = 64
WARM_UP = 0.06  # share of the steps
SMOOTHING = 0.05
SPREAD = 0.6  # standard deviation of the log gains at the start
RATES = {"mini_vit": 1e-3, "mini_deit": 1e-3, "mini_swin": 2e-3}  # peak learning rates
STEPS = {"mini_vit": 1800, "mini_deit": 1800, "mini_swin": 1000}


def pool(size: int) -> tuple[Tensor, Tensor]:
    """Training pictures (size, 3, 64, 64) uint8 from easy to hard and their labels (size,) int64."""
    rng = imagenet.generator("training pool")
    labels, difficulty = rng.integers(shapes.CLASSES, size=size), np.linspace(0, 1, size)
    images = np.empty((size, shapes.SIZE, shapes.SIZE, 3), np.uint8)
    for start in tqdm(range(0, size, BATCH), desc="drawing", unit="batch"):
        part = slice(start, start + BATCH)
        images[part] = shapes.draw(labels[part], difficulty[part], rng)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def augment(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror and brighten a batch (B, 3, H, W) uint8 to float32 in 0..1."""
    images = images.flip(3) if rng.random() < 0.5 else images
    return images.float() / 255 * torch.from_numpy(rng.uniform(0.8, 1.1, (len(images), 1, 1, 1))).float()


def batch(data: tuple[Tensor, Tensor], name: str, progress: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """An augmented and normalised batch, (B, 3, H, W) float32 and (B,) int64, of pictures easy enough for now."""
    images, labels = data
    rows = torch.from_numpy(rng.integers(int(len(labels) * min(1, 0.1 + progress / 0.5)), size=BATCH))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in imagenet.STATS[name])
    return (augment(images[rows], rng) - mean) / std, labels[rows]


def rate(progress: float) -> float:
    """Learning rate factor at a progress in 0..1: linear warm-up, then a half cosine to zero."""
    if progress < WARM_UP:
        return 0.01 + progress / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * min(1, (progress - WARM_UP) / (1 - WARM_UP)))


def loss_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Smoothed cross entropy; a distilled model's two heads are trained alike, on the labels."""
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images)
    heads = out if isinstance(out, tuple) else (out,)
    return sum(cross_entropy(head.float(), labels, label_smoothing=SMOOTHING) for head in heads) / len(heads)


@torch.no_grad()
def spread_gains(model: nn.Module) -> None:
    """Make the gains of every LayerNorm log-normal without a change of the model's outputs."""
    pairs = {"norm1": "attn.qkv", "norm2": "mlp.fc1", "downsample.norm": "downsample.reduction"}
    for name, norm in model.named_modules():
        for end, reader in pairs.items():
            if name.endswith(f".{end}"):
                gain = torch.exp(SPREAD * torch.randn_like(norm.weight))  # (C,)
                norm.weight.mul_(gain)
                model.get_submodule(name.removesuffix(end) + reader).weight.div_(gain)


def train(name: str, data: tuple[Tensor, Tensor], length: int, seed: int = 0) -> nn.Module:
    """A model after ``length`` steps of AdamW from random weights."""
    torch.manual_seed(seed)
    model = imagenet.build(name).train()
    spread_gains(model)
    if hasattr(model, "set_distilled_training"):
        model.set_distilled_training(True)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [dict(params=decayed, weight_decay=0.05), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=RATES[name])
    begun, rng = time.monotonic(), np.random.default_rng(seed)
    bar = tqdm(range(length), desc=name, unit="step", mininterval=5)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = RATES[name] * rate(step / length)
        loss = loss_of(model, *batch(data, name, step / length, rng))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    print(f"{name}: {length} steps of {BATCH} pictures in {(time.monotonic() - begun) / 60:.1f} min")
    return model.eval()


def save(path: Path, model: nn.Module) -> None:
    """Put the weights in place as float16, at once or not at all."""
    state = {key: (value.half() if value.is_floating_point() else value).contiguous()
             for key, value in model.state_dict().items()}
    write_bytes(path, to_bytes(state))


def accuracy(name: str) -> float:
    """Top-1 in percent of the saved weights on the val folder."""
    files = [(path, label) for label, wnid in enumerate(imagenet.SYNSETS)
             for path in sorted((imagenet.prepare() / "val" / wnid).iterdir())]  # fmt: skip
    prepare = imagenet.transform(name)
    images = torch.stack([prepare(read_rgb(path)) for path, _ in files])  # (N, 3, H, W)
    right = imagenet.predict(imagenet.load(name), images) == torch.tensor([label for _, label in files])
    return 100 * right.float().mean().item()


def main() -> None:
    """Train the chosen models one after the other on one pool of pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=imagenet.MODELS, default=imagenet.MODELS)
    parser.add_argument("--steps", type=int, help=f"training steps of each model (default: {STEPS})")
    parser.add_argument("--pool", type=int, default=40000, help="pictures to draw (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    set_fused_attn(False)  # plain attention trains faster in bfloat16 on a CPU
    data = pool(args.pool)
    for name in args.model:
        save(imagenet.weights(name), train(name, data, args.steps or STEPS[name]))
        print(f"{name}: top-1 {accuracy(name):.1f} % of the val pictures", flush=True)


if __name__ == "__main__":
    main()
