"""Training samples to judge settings by: labelled, never calibrated on, and none of those that results are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from aiqvit.interfaces import UserError

Sample = TypeVar("Sample")


def split(train: Sequence[Sample], count: int) -> tuple[list[Sample], list[Sample]]:
    """The training samples without `count` evenly spaced ones, and these.

    Raises `UserError` where none would be left.
    """
    if not 0 < count < len(train):
        raise UserError(f"--held-out {count}: there are {len(train)} training samples, of which some have to be left "
                        "to calibrate on")
    chosen = {i * len(train) // count for i in range(count)}
    return ([sample for i, sample in enumerate(train) if i not in chosen],
            [sample for i, sample in enumerate(train) if i in chosen])


def label(name: str) -> str:
    """The label of a task that is judged so: `imagenet-train-mini` of `imagenet-mini`."""
    return f"{name.removesuffix('-mini')}-train" + ("-mini" if name.endswith("-mini") else "")


def note(count: int) -> str:
    """What people have to know."""
    return f"evaluated on {count} training samples that no method calibrates on, not on the validation set"
