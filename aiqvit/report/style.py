"""How methods and metrics look in every figure: one colour and one marker a method, safe for the colour-blind."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

MARKERS = "osD^vP*Xhd<>"
COLOURS = {  # Paul Tol's "muted" scheme
    "fp32": "#000000", "minmax": "#999933", "brecq": "#DDAA33", "qdrop": "#88CCEE", "ptq4vit": "#117733",
    "apqvit": "#AA4499", "repqvit": "#332288", "isvit": "#44AA99", "aiqvit": "#CC3311"}
SPARE = ("#882255", "#77AADD", "#555555", "#BBCC33", "#EE8866", "#0077BB", "#AA7744")  # other methods, by name
UNITS = {"top1": "top-1 accuracy (%)", "box_ap": "box AP (%)", "macc": "mean class accuracy (%)",
         "oa": "overall accuracy (%)", "class_miou": "class mIoU (%)", "instance_miou": "instance mIoU (%)",
         "mask_ap": "mask AP (%)", "top5": "top-5 accuracy (%)"}


def colour(method: str) -> str:
    """The method's colour, the same in every figure and every process."""
    return COLOURS.get(method) or SPARE[crc32(method.encode()) % len(SPARE)]


def marker(method: str) -> str:
    """The method's marker: those that share a colour rarely share a marker too."""
    names = list(COLOURS)
    return MARKERS[names.index(method) if method in names else crc32(method[::-1].encode()) % len(MARKERS)]


def order(methods: Iterable[str]) -> list[str]:
    """Methods in display order, unknown ones last."""
    names = list(COLOURS)
    return sorted(set(methods), key=lambda m: (names.index(m) if m in names else len(names), m))


def headline(metrics: Iterable[str]) -> tuple[str, str]:
    """The metric to draw, and its axis label with the unit."""
    metrics = [m for m in metrics if m not in ("images", "skipped")]
    key = next((name for name in UNITS if name in metrics), metrics[0] if metrics else "")
    return key, UNITS.get(key, f"{key[:40]} (%)")
