"""Average precision of matched detections, for any weighting of the images.

What pycocotools' `accumulate` and `summarize` compute, with an image that counts twice instead of one that is there
twice: precision, made monotone from the right, is averaged over 101 recalls, 10 thresholds and all categories.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aiqvit.interfaces import Outcomes

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the intersection over union
RECALLS = np.linspace(0, 1, 101)
CHUNK = 64  # weightings at once
SIZES, MOST = 4, 10_000  # of objects; categories
ENDS = {"": (0, slice(None)), "_50": (0, [0]), "_75": (0, [5]), "_s": (1, slice(None)), "_m": (2, slice(None)),
        "_l": (3, slice(None))}  # of a metric's name: sizes (all, small, medium, large) and thresholds


def average_precision(outcomes: Outcomes, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`box_ap` and `mask_ap` in percent, each also with _50, _75, _s, _m, _l, for weights (B, N) of the images.

    By size only for one weighting: for the many of a bootstrap that takes four times as long. NaN where there is no
    object, or none of that size. `outcomes` as `aiqvit.tasks.detection.matching` makes them.
    """
    found = dict.fromkeys(("box_ap", "mask_ap"), np.full(len(weights), np.nan))
    if outcomes.samples:
        _, sizes, categories = outcomes.arrays["objects"].shape
        if sizes != SIZES or categories > MOST:
            raise ValueError(f"it has objects of {sizes} sizes and {categories} categories: expected {SIZES} and at "
                             f"most {MOST}")
    for kind in ("box", "mask"):
        if f"{kind}_hit" in outcomes.arrays:
            parts = [_all(outcomes, part, kind) for part in np.array_split(weights, -(-len(weights) // CHUNK))]
            found |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return found


def _all(outcomes: Outcomes, weights: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    ends = {end: place for end, place in ENDS.items() if len(weights) == 1 or not place[0]}
    sizes = {size: _by_category(outcomes, weights, kind, size) for size in {size for size, _ in ends.values()}}
    with np.errstate(invalid="ignore"):
        return {f"{kind}_ap{end}": 100 * _mean(sizes[size][:, which]) for end, (size, which) in ends.items()}


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean (B,) of values (B, thresholds, categories) that are there."""
    there = ~np.isnan(values)
    return np.where(there, values, 0).sum((1, 2)) / there.sum((1, 2))


def _by_category(outcomes: Outcomes, weights: np.ndarray, kind: str, size: int) -> np.ndarray:
    """AP (B, thresholds, categories) of one size of objects; NaN for a category without one."""
    arrays = outcomes.arrays
    objects = weights @ arrays["objects"][:, size].astype(float)  # (B, categories)
    image = np.repeat(np.arange(len(outcomes.samples)), arrays["count"])  # (D,)
    found = np.full((len(weights), len(THRESHOLDS), objects.shape[1]), np.nan)
    for category in np.flatnonzero(objects.any(0)):
        rows = np.flatnonzero(arrays["category"] == category)
        rows = rows[np.lexsort((arrays["id"][image[rows]], -arrays["score"][rows]))]  # equal scores by image
        own = weights[:, image[rows]]  # (B, D of this category)
        hits, skips = (arrays[f"{kind}_{name}"][rows, size] for name in ("hit", "skip"))
        for at, (hit, counts) in enumerate(_thresholds(hits, skips)):
            found[:, at, category] = _precision(own[:, counts] * hit[counts], own[:, counts] * ~hit[counts],
                                                objects[:, category])
    return found


def _thresholds(hits: np.ndarray, skips: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(whether a detection matches, whether it counts) at each threshold."""
    for bit in range(len(THRESHOLDS)):
        yield (hits >> bit & 1).astype(bool), ~(skips >> bit & 1).astype(bool)


def _precision(right: np.ndarray, wrong: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """AP (B,) of weighted detections (B, D) from the highest score to the lowest; NaN without objects (B,)."""
    right, wrong = right.cumsum(1), wrong.cumsum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / objects[:, None]
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, recall, side="right")  # how many recalls each detection has reached
    steps = np.diff(reached, axis=1, prepend=0)  # each takes the precision where it is reached first
    return np.where(objects > 0, (steps * precision).sum(1) / len(RECALLS), np.nan)
