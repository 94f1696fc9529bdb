"""How methods look in every figure: one colour and one marker a method, safe for the colour-blind."""

from __future__ import annotations

from zlib import crc32

MARKERS = "osD^vP*Xhd<>p8H1234"
COLOURS = {  # Paul Tol's "muted" scheme
    "fp32": "#000000", "minmax": "#999933", "brecq": "#DDAA33", "qdrop": "#88CCEE", "ptq4vit": "#117733",
    "apqvit": "#AA4499", "repqvit": "#332288", "isvit": "#44AA99", "erq": "#882255", "gptaq": "#77AADD",
    "adalog": "#555555", "aphqvit": "#BBCC33", "fimaq": "#EE8866", "lsvit": "#0077BB", "glfq": "#AA7744",
    "aiqvit": "#CC3311"}
SPARE = ("#DDCC77", "#CC6677", "#225555", "#BBBBBB", "#EE99AA", "#6699CC", "#994455")  # other methods, by name


def colour(method: str) -> str:
    """The method's colour, the same in every figure and every process."""
    return COLOURS.get(method) or SPARE[crc32(method.encode()) % len(SPARE)]


def marker(method: str) -> str:
    """The method's marker: those that share a colour rarely share a marker too."""
    names = list(COLOURS)
    return MARKERS[names.index(method) if method in names else crc32(method[::-1].encode()) % len(MARKERS)]


def rank(method: str) -> tuple[int, str]:
    """For sorting in display order, unknown methods last."""
    names = list(COLOURS)
    return names.index(method) if method in names else len(names), method
