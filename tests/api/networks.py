"""Networks of others, and how they are quantized and go through a file."""

from __future__ import annotations

import timm
import torch
from timm.models.vision_transformer import Block
from torch import nn

import aiqvit
from tests.families import networks

SIZE = 56


class Depth(nn.Module):
    """A ViT as the backbone of a small decoder."""

    def __init__(self):
        super().__init__()
        self.backbone = timm.create_model("vit_small_patch14_dinov2", img_size=SIZE, depth=2, num_classes=0)
        self.project = nn.Conv2d(384, 16, 1)
        self.decoder = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                                     nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(8, 1, 3, padding=1))
        self.scale = nn.Linear(384, 1)

    def forward(self, x):
        tokens = self.backbone.forward_features(x)  # (B, 1 + N, 384)
        maps = tokens[:, 1:].transpose(1, 2).unflatten(-1, (SIZE // 14, SIZE // 14))
        return self.decoder(self.project(maps)), self.scale(tokens[:, 0])


class Own(nn.Module):
    """A vision transformer that no family knows, built of blocks that one knows."""

    def __init__(self, width=48):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.layers = nn.ModuleList(Block(width, 3, qkv_bias=True, init_values=0.1) for _ in range(3))
        self.last, self.classify = nn.LayerNorm(width), nn.Linear(width, 7)
        self.register_buffer("input_mean", torch.rand(width, 1, 1))  # as quantized layers have one

    def forward(self, x):
        x = (self.patches(x) - self.input_mean).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return self.classify(self.last(x.mean(1)))


class Tied(nn.Module):
    """A layer at two places, and a parameter in two layers."""

    def __init__(self):
        super().__init__()
        self.vit = Own()
        self.first = nn.Linear(7, 7)
        self.second, self.third = self.first, nn.Linear(7, 7)
        self.third.weight = self.first.weight

    def forward(self, x):
        return self.third(self.second(self.first(self.vit(x)).relu()).relu())


def random(make, seed=0):
    torch.manual_seed(seed)
    return networks.randomize(make(), seed + 1)


def images(count=4, size=32):
    return networks.images(count, size)


def quantized(model, x, method="minmax", **more):
    return aiqvit.quantize(model, x, **{"method": method, "bits": "4/6", "preset": "smoke", "progress": False, **more})


def through_a_file(q, folder, fresh=None):
    aiqvit.save(q, folder / "q.safetensors")
    torch.manual_seed(99)
    return aiqvit.load(folder / "q.safetensors", fresh)


@torch.no_grad()
def same(a, b, x):
    first, second = (net(x) for net in (a, b))
    if isinstance(first, torch.Tensor):
        first, second = (first,), (second,)
    return all(map(torch.equal, first, second))
