"""What is known of metrics: their words, units and directions; one that is not here is percent, higher is better."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiqvit.harness.store.schema import COUNTS


class Metric(NamedTuple):
    """What a metric is called on an axis, its unit, and how its numbers are read."""

    label: str
    unit: str = "%"
    lower: bool = False  # lower is better
    change: bool = True  # the change from full precision means something
    decimals: int = 2
    name: str = ""  # in a heading, where that is not the metric's own

    @property
    def axis(self) -> str:
        """`top-1 accuracy (%)`."""
        return f"{self.label} ({self.unit})"


METRICS = {  # the first that a record has is its headline
    "top1": Metric("top-1 accuracy"), "box_ap": Metric("box AP"), "macc": Metric("mean class accuracy"),
    "oa": Metric("overall accuracy"), "class_miou": Metric("class mIoU"), "instance_miou": Metric("instance mIoU"),
    "mask_ap": Metric("mask AP"), "top5": Metric("top-5 accuracy"),
    "agreement": Metric("agreement with full precision", change=False),
    "kl": Metric("KL", "nats", lower=True, change=False, decimals=4, name="KL")}


def metric(name: str) -> Metric:
    """Of a metric that is not in `METRICS`: percent, higher is better."""
    return METRICS.get(name, Metric(name[:40]))


def heading(name: str) -> str:
    """`top1 (%)`, `KL (nats)`."""
    return f"{metric(name).name or name} ({metric(name).unit})"


def units(names: Iterable[str]) -> str:
    """`top1 and top5 in percent, kl in nats`."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault("percent" if metric(name).unit == "%" else metric(name).unit, []).append(name)
    return ", ".join(f"{' and '.join(same)} in {unit}" for unit, same in alike.items())


def headline(metrics: Iterable[str]) -> str:
    """The metric to draw: the first of `METRICS` among these, otherwise their first."""
    metrics = [name for name in metrics if name not in COUNTS]
    return next((name for name in METRICS if name in metrics), metrics[0] if metrics else "")
