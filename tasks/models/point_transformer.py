"""Point Transformer (Zhao et al., ICCV 2021), in the configuration of its widely used re-implementation.

Every level keeps a quarter of the points of the one before. Coordinates, sampling and neighbours are computed outside
of the layers, once for a batch, and handed to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
from aiqvit.tasks.models.geometry import farthest_points, interpolation, nearest, pick
from torch import Tensor, nn

from aiqvit.quant.products import WeightedSum

NEIGHBOURS = 16
WIDTHS = (32, 64, 128, 256, 512)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization of the last dimension, (..., C)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same."""
        return super().forward(x.flatten(0, -2)).view_as(x)


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    pairs = [(nn.Linear(a, b), nn.ReLU(inplace=True)) for a, b in pairwise(sizes)]
    return nn.Sequential(*chain.from_iterable(pairs))[:-1]


def normed(*sizes: int) -> nn.Sequential:
    """Linear layers, that is 1 x 1 convolutions, each with batch normalization and ReLU."""
    triples = [(nn.Linear(a, b), BatchNorm(b), nn.ReLU(inplace=True)) for a, b in pairwise(sizes)]
    return nn.Sequential(*chain.from_iterable(triples))


class Block(nn.Module):
    """Vector attention over the neighbours of each point, between two Linear layers, with a residual."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.expand, self.reduce = nn.Linear(width, dim), nn.Linear(dim, width)
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.position, self.gamma = mlp(3, dim, dim), mlp(dim, dim, dim)
        self.sum = WeightedSum()

    def forward(self, x: Tensor, xyz: Tensor, neighbours: Tensor) -> Tensor:
        """x (B, N, C), xyz (B, N, 3), neighbours (B, N, k) to (B, N, C)."""
        h = self.expand(x)  # (B, N, D)
        delta = self.position(xyz[:, :, None] - pick(xyz, neighbours))  # (B, N, k, D)
        relation = pick(-self.key(h), neighbours).add_(delta).add_(self.query(h)[:, :, None])
        scores = self.gamma(relation)
        weights = scores.mul_(h.shape[-1] ** -0.5).softmax(-2)
        return x + self.reduce(self.sum(weights, pick(self.value(h), neighbours).add_(delta)))


class Down(nn.Module):
    """Transition down: the largest features among the neighbours of each chosen point.

    `grouped` is the published form: two layers on the neighbours' features with their coordinates relative to the
    chosen point. Otherwise one layer on the points as they are.
    """

    def __init__(self, width: int, out: int, grouped: bool) -> None:
        super().__init__()
        self.grouped = grouped
        self.mlp = normed(3 + width, out, out) if grouped else normed(width, out)

    def forward(self, x: Tensor, xyz: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        """x (B, N, C), xyz (B, N, 3), centres (B, M), their neighbours (B, M, k) to (B, M, C')."""
        if self.grouped:
            offsets = pick(xyz, neighbours) - pick(xyz, centres)[:, :, None]  # (B, M, k, 3)
            return self.mlp(torch.cat([offsets, pick(x, neighbours)], dim=-1)).amax(2)
        return pick(self.mlp(x), neighbours).amax(2)


class Up(nn.Module):
    """Transition up: features of the coarser level interpolated to the finer one, plus the finer level's own."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.coarse, self.fine = normed(coarse, fine), normed(fine, fine)

    def forward(self, x: Tensor, skip: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        """x (B, M, C), skip (B, N, C'), the nearest coarse points and their weights (B, N, 3) to (B, N, C')."""
        spread = (pick(self.coarse(x), indices) * weights[..., None]).sum(2)
        return spread + self.fine(skip)


@dataclass
class Level:
    """Points of one level: coordinates, neighbours, and which points of the finer level they are."""

    xyz: Tensor  # (B, N, 3)
    neighbours: Tensor  # (B, N, k)
    centres: Tensor | None = None  # (B, N)
    groups: Tensor | None = None  # (B, N, k), neighbours in the finer level


@torch.no_grad()
def pyramid(xyz: Tensor, depth: int) -> list[Level]:
    """All `depth` levels above points (B, N, 3), finest first."""
    levels = [Level(xyz, nearest(xyz, xyz, NEIGHBOURS))]
    for _ in range(depth - 1):
        finer = levels[-1]
        centres = farthest_points(finer.xyz, max(finer.xyz.shape[1] // 4, 1))
        xyz = pick(finer.xyz, centres)
        groups = pick(finer.neighbours, centres)
        levels.append(Level(xyz, nearest(xyz, xyz, NEIGHBOURS), centres, groups))
    return levels


class PointTransformer(nn.Module):
    """Classification: points (B, N, channels), coordinates first, to logits (B, classes)."""

    def __init__(self, channels: int = 6, classes: int = 40, widths: Sequence[int] = WIDTHS, dim: int = 512,
                 grouped: bool = True, hidden: Sequence[int] = (256, 64)) -> None:
        super().__init__()
        self.embed = mlp(channels, widths[0], widths[0])
        self.blocks = nn.ModuleList(Block(width, dim) for width in widths)
        self.downs = nn.ModuleList(Down(a, b, grouped) for a, b in pairwise(widths))
        self.classifier = mlp(self.last_width(widths), *hidden, classes)

    @staticmethod
    def last_width(widths: Sequence[int]) -> int:
        """Features that the classifier gets."""
        return widths[-1]

    def units(self) -> list[str]:
        """Names of what is reconstructed one by one, in forward order."""
        steps = [name for i in range(len(self.downs)) for name in (f"downs.{i}", f"blocks.{i + 1}")]
        return ["embed", "blocks.0", *steps, "classifier"]

    def encode(self, points: Tensor) -> tuple[list[Level], list[Tensor]]:
        """Levels and the features of each (B, N, C), finest first."""
        levels = pyramid(points[..., :3].contiguous(), len(self.blocks))
        features = [self.blocks[0](self.embed(points), levels[0].xyz, levels[0].neighbours)]
        for finer, level, down, block in zip(levels, levels[1:], self.downs, self.blocks[1:], strict=False):
            x = down(features[-1], finer.xyz, level.centres, level.groups)
            features.append(block(x, level.xyz, level.neighbours))
        return levels, features

    def forward(self, points: Tensor) -> Tensor:
        """See the class."""
        _, features = self.encode(points)
        return self.classifier(features[-1].mean(1))


class PointSegmenter(PointTransformer):
    """Part segmentation: points (B, N, channels) to logits (B, N, classes).

    The channels are coordinates, normals and the one-hot category of the shape, the same at each of its points.
    """

    def __init__(self, channels: int = 22, classes: int = 50, widths: Sequence[int] = WIDTHS, dim: int = 512,
                 grouped: bool = True, hidden: Sequence[int] = (64, 64), bottleneck: int = 512) -> None:
        super().__init__(channels, classes, widths, dim, grouped, hidden)
        self.bottleneck = mlp(widths[-1], bottleneck, bottleneck, widths[-1])
        self.bottom = Block(widths[-1], dim)
        self.ups = nn.ModuleList(Up(a, b) for a, b in pairwise(widths[::-1]))
        self.up_blocks = nn.ModuleList(Block(width, dim) for width in widths[-2::-1])

    @staticmethod
    def last_width(widths: Sequence[int]) -> int:
        """See `PointTransformer`."""
        return widths[0]

    def units(self) -> list[str]:
        """See `PointTransformer`."""
        steps = [name for i in range(len(self.ups)) for name in (f"ups.{i}", f"up_blocks.{i}")]
        return [*super().units()[:-1], "bottleneck", "bottom", *steps, "classifier"]

    def forward(self, points: Tensor) -> Tensor:
        """See the class."""
        levels, features = self.encode(points)
        x = self.bottom(self.bottleneck(features.pop()), levels[-1].xyz, levels[-1].neighbours)
        for i in range(len(self.ups)):
            level = levels[-2 - i]
            x = self.ups[i](x, features.pop(), *interpolation(level.xyz, levels[-1 - i].xyz))
            x = self.up_blocks[i](x, level.xyz, level.neighbours)
        return self.classifier(x)
