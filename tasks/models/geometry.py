"""Geometry of point clouds: farthest point sampling, neighbours, interpolation. Ties go to the lower index."""

from __future__ import annotations

import torch
from torch import Tensor


def square_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of all pairs, (B, M, 3), (B, N, 3) to (B, M, N); exactly 0 where points are equal."""
    total = (a[:, :, None, 0] - b[:, None, :, 0]).square_()
    for axis in range(1, a.shape[2]):
        total.add_((a[:, :, None, axis] - b[:, None, :, axis]).square_())
    return total


@torch.no_grad()
def farthest_points(xyz: Tensor, count: int) -> Tensor:
    """Indices (B, count) of points (B, N, 3): the first point, then always the one farthest from those chosen."""
    if torch.compiler.is_exporting():
        return _scanned(xyz, count)
    planes = xyz.transpose(1, 2).contiguous()  # (B, 3, N)
    nearest = torch.full_like(planes[:, 0], torch.inf)  # (B, N), squared distance from the chosen ones
    chosen = torch.zeros(len(xyz), count, dtype=torch.long, device=xyz.device)
    for step in range(1, count):
        last = planes.gather(2, chosen[:, None, step - 1 : step].expand(-1, 3, -1))  # (B, 3, 1)
        torch.minimum(nearest, (planes - last).square_().sum(1), out=nearest)
        chosen[:, step] = nearest.argmax(1)
    return chosen


def _scanned(xyz: Tensor, count: int) -> Tensor:
    """The same as a loop of the graph that is exported, which would have all steps one behind the other."""
    from torch._higher_order_ops.scan import scan

    planes = xyz.transpose(1, 2)  # (B, 3, N)
    first = torch.zeros(xyz.shape[0], 1, 1, dtype=torch.long, device=xyz.device)

    def step(state: tuple[Tensor, Tensor], _: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        distances, last = state
        chosen = planes.gather(2, last.expand(-1, 3, -1))  # (B, 3, 1)
        distances = torch.minimum(distances, (planes - chosen).square().sum(1))
        last = distances.argmax(1)[:, None, None]
        return (distances, last), last[:, 0, 0].clone()

    _, others = scan(step, (torch.full_like(planes[:, 0], torch.inf), first), torch.zeros(count - 1, 1))
    return torch.cat([first[:, 0], others.transpose(0, 1)], dim=1)


@torch.no_grad()
def nearest(a: Tensor, b: Tensor, count: int) -> Tensor:
    """Indices of the `count` nearest of `b` for each point of `a`, nearest first: (B, M, 3), (B, N, 3) to (B, M, k).

    k is `count`, or N where there are fewer.
    """
    if torch.compiler.is_exporting():  # ONNX's TopK has the same order, and no bits of numbers
        return square_distances(a, b).topk(min(count, b.shape[1]), largest=False).indices
    bits = square_distances(a.float(), b.float()).view(torch.int32).long()  # ordered as the distances, which are >= 0
    keys = bits.bitwise_left_shift_(32).add_(torch.arange(b.shape[1], device=b.device))  # all different
    return keys.topk(min(count, b.shape[1]), largest=False).values.bitwise_and_(2**32 - 1)


def pick(x: Tensor, indices: Tensor) -> Tensor:
    """Rows of every sample: (B, N, C) and (B, ...) to (B, ..., C)."""
    B, N, C = x.shape
    start = torch.arange(B, device=x.device).view(B, *[1] * (indices.dim() - 1)) * N
    return x.reshape(B * N, C).index_select(0, (indices + start).flatten()).view(*indices.shape, C)


@torch.no_grad()
def interpolation(fine: Tensor, coarse: Tensor, count: int = 3) -> tuple[Tensor, Tensor]:
    """The nearest coarse points of each fine one, and weights proportional to 1 / squared distance: (B, N, 3) twice."""
    indices = nearest(fine, coarse, count)
    distance = (fine[:, :, None] - pick(coarse, indices)).square().sum(-1)  # (B, N, 3)
    weights = 1 / (distance + 1e-8)
    return indices, weights / weights.sum(-1, keepdim=True)
