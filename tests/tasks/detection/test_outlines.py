"""Masks that COCO's tools, which are C, would crash on or never end with are found before."""

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from aiqvit.tasks.detection.geometry import clean_mask, fault_of_box  # noqa: E402
from aiqvit.tasks.detection.outlines import POLYGONS, runs  # noqa: E402
from pycocotools.mask import encode  # noqa: E402

SIZE = (50, 100)
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]


def code(mask):
    found = encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}


def test_runs_are_those_of_the_mask():
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = rng.random(rng.integers(1, 90, 2)) < rng.random()
        flat = np.concatenate([[False], mask.flatten("F")])
        ends = np.flatnonzero(np.diff(flat))
        want = np.diff(np.concatenate([[0], ends, [mask.size]]))
        found = runs(code(mask)["counts"])
        assert np.array_equal(found[found > 0], want[want > 0])
        assert clean_mask(code(mask), mask.shape) == code(mask)


@pytest.mark.parametrize("value", [
    {"size": [50, 100], "counts": [5001]}, {"size": [50, 100], "counts": [4999]},
    {"size": [50, 100], "counts": [2**32, 5000]}, {"size": [50, 100], "counts": [5001, -1]},
    {"size": [50, 100], "counts": [5000.0]}, {"size": [50, 100], "counts": [True] * 5000},
    {"size": [50, 100], "counts": []}, {"size": [50, 100], "counts": ""}, {"size": [50, 100], "counts": "o" * 5000},
    {"size": [50, 100], "counts": "~~~~"}, {"size": [50, 100], "counts": "\0\x01"}, {"size": [50, 100], "counts": "é"},
    {"size": [50, 100], "counts": "0" * 99}, {"size": 5, "counts": [5000]}, {"size": "ab", "counts": [5000]},
    {"size": [5000, 1], "counts": [5000]}, {"counts": [5000]}, {"size": [50, 100]}, {"size": None, "counts": None},
    code(np.ones((50, 99))), {"size": [50, 100], "counts": code(np.ones((50, 101)))["counts"]}])
def test_runs_of_other_pictures_are_unusable(value):
    assert clean_mask(value, SIZE) is None


@pytest.mark.parametrize("points", [
    [1e308] * 8, [float("nan")] * 6, [10**400] * 6, [1e6, 1e6, 1e6, 2e6, 2e6, 2e6], [-101, 0, 0, 0, 10, 10], SQUARE[:4],
    SQUARE[:7], [True] * 6, ["1"] * 6, [[1, 1]] * 6, None, 7])
def test_polygons_that_are_none(points):
    assert clean_mask([points], SIZE) is None and clean_mask([points, SQUARE], SIZE) == [SQUARE]


def test_endless_polygons():
    assert clean_mask([[0, 0, 100, 50] * 50_000], SIZE) is None
    assert clean_mask([SQUARE] * (POLYGONS + 1), SIZE) is None
    assert clean_mask([SQUARE], (0, 0)) is None and clean_mask([SQUARE], SIZE) == [SQUARE]


@pytest.mark.parametrize("box", [[1e308] * 4, [10**400] * 4, [float("inf")] * 4, [True] * 4, ["1"] * 4, {}, "1234"])
def test_boxes_that_are_none(box):
    assert "not four finite numbers" in fault_of_box(box, SIZE)
