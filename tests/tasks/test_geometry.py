"""Sampling, neighbours and interpolation against brute force, ties by index."""

import torch
from aiqvit.tasks.models.geometry import farthest_points, interpolation, nearest, pick, square_distances


def cloud(count: int, seed: int, tied: bool = False) -> torch.Tensor:
    """Points (2, count, 3); tied ones lie on a small integer grid, so that many distances are equal."""
    generator = torch.Generator().manual_seed(seed)
    if tied:
        return torch.randint(0, 3, (2, count, 3), generator=generator).float()
    return torch.randn(2, count, 3, generator=generator)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True))


def brute_nearest(a: torch.Tensor, b: torch.Tensor, count: int) -> list:
    return [[sorted(range(len(b)), key=lambda j: (distance(p, b[j]), j))[:count] for p in a]]


def brute_farthest(points: torch.Tensor, count: int) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        gaps = [min(distance(p, points[c]) for c in chosen) for p in points]
        chosen.append(gaps.index(max(gaps)))
    return chosen


def test_neighbours_are_those_of_brute_force_ties_by_index():
    for tied in (False, True):
        a, b = cloud(9, 0, tied), cloud(30, 1, tied)
        found = nearest(a, b, 7)
        assert found.tolist() == [brute_nearest(p, q, 7)[0] for p, q in zip(a, b, strict=True)]
    assert nearest(a, b[:, :4], 16).shape == (2, 9, 4)


def test_a_point_is_its_own_first_neighbour_and_distances_are_exact():
    points = cloud(40, 2) * 1e-4 + 100  # differences of a few float steps
    assert square_distances(points, points).diagonal(dim1=1, dim2=2).eq(0).all()
    nearest_one = pick(points, nearest(points, points, 1))[:, :, 0]
    assert torch.equal(nearest_one, points)


def test_farthest_points_are_those_of_brute_force_ties_by_index():
    for tied in (False, True):
        points = cloud(40, 3, tied)
        assert farthest_points(points, 12).tolist() == [brute_farthest(p, 12) for p in points]


def test_pick_takes_rows_of_the_own_sample():
    x, indices = torch.arange(24.0).view(2, 4, 3), torch.tensor([[[0, 3]], [[1, 1]]])
    assert pick(x, indices).tolist() == [[[[0, 1, 2], [9, 10, 11]]], [[[15, 16, 17], [15, 16, 17]]]]


def test_interpolation_weights_are_inverse_squared_distances():
    fine, coarse = cloud(10, 4), cloud(6, 5)
    indices, weights = interpolation(fine, coarse)
    for b in range(2):
        for i in range(10):
            inverse = [1 / distance(fine[b, i], coarse[b, j]) for j in indices[b, i]]
            expected = torch.tensor([v / sum(inverse) for v in inverse])
            torch.testing.assert_close(weights[b, i], expected, rtol=1e-4, atol=1e-6)
    same, weights = interpolation(coarse, coarse)
    torch.testing.assert_close(weights[..., 0], torch.ones(2, 6))  # a point that is there keeps its value
    assert same[..., 0].tolist() == [list(range(6))] * 2
