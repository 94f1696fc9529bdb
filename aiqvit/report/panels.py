"""Panels, axes and legends of figures; matplotlib is imported when the first figure is drawn."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping, Sequence
from math import ceil
from typing import Any

from aiqvit.interfaces import UserError
from aiqvit.io.escape import line
from aiqvit.report import style
from aiqvit.report.footer import warnings
from aiqvit.report.records import Comparable

MOST = 24  # panels in a line or a column, and entries of a legend: more cannot be read, nor drawn in good time


def short(text: str, most: int = 60) -> str:
    """Text for a figure: one line of bounded length."""
    text = line(text[: 4 * most])
    return text if len(text) <= most else f"{text[: most - 1]}…"


def width(bits: str) -> tuple[int, ...]:
    """For sorting bit widths."""
    return tuple(map(int, bits.split("/")))


def softmax_levels(values: Any, rows: Sequence[tuple[str, str, Sequence[float]]], title: str) -> Any:
    """The histogram of post-Softmax values over each quantizer's levels (AIQViT's Figure 3).

    `values` is one-dimensional; `rows` are (method, label, levels), from the top.
    """
    import numpy as np

    plt = pyplot()
    figure, (top, below) = plt.subplots(2, 1, figsize=(7.5, 2.2 + 0.42 * len(rows)), sharex=True, layout="constrained",
                                        height_ratios=(1.3, 0.28 * len(rows)))
    edges = np.concatenate([[0], np.geomspace(1e-4, 1, 61)])
    top.stairs(100 * np.histogram(values, edges)[0] / len(values), edges, fill=True, color="#888888")
    top.set(title=short(title, 120), ylabel="values (%)")
    for i, (method, _, levels) in enumerate(rows):
        below.vlines(levels, i - 0.33, i + 0.33, color=style.colour(method), linewidth=2)
        below.axhline(i, color="#cccccc", linewidth=0.6, zorder=0)
    below.set_yticks(range(len(rows)), ["\n".join(map(short, label.splitlines()[:3])) for _, label, _ in rows])
    below.set_ylim(len(rows) - 0.4, -0.6)
    below.set_xscale("symlog", linthresh=1e-4, linscale=0.4)
    below.xaxis.set_major_formatter("{x:g}")
    below.set(xlim=(min(-2e-5, *(1.5 * min(levels) for *_, levels in rows)), 1.3),
              xlabel="attention weight after Softmax (linear below 0.0001, log above); one bar a level")
    return figure


def pyplot() -> Any:
    """matplotlib.pyplot, drawing to files only: text is no formula, the same numbers give the same bytes.

    Raises `UserError` when matplotlib is not installed.
    """
    os.environ["MPLBACKEND"] = "Agg"  # what the user has there may not exist
    try:
        import matplotlib
    except ImportError as error:
        raise UserError("figures need matplotlib: pip install 'aiqvit[report]'") from error

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"text.parse_math": False, "text.usetex": False, "svg.hashsalt": "aiqvit"})
    import matplotlib.pyplot as plt

    return plt


def rendered(figure: Any, kind: str) -> bytes:
    """The figure as a pdf, png or svg file, the same for the same numbers."""
    content = io.BytesIO()
    stamps = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    figure.savefig(content, format=kind, dpi=160, metadata=stamps.get(kind))
    return content.getvalue()


def matrix(part: Comparable, places: Collection[tuple[str, str]], **share: bool) -> dict[tuple[str, str], Any]:
    """A panel a (model, bits): a line a model, a column a bit width; the first `MOST` of each."""
    models, widths = sorted({model for model, _ in places})[:MOST], sorted({b for _, b in places}, key=width)[:MOST]
    places = {(model, bits) for model, bits in places if model in models and bits in widths}
    grid = _subplots(part, len(models), len(widths), **share)
    axes = {(model, bits): grid[i][j] for i, model in enumerate(models) for j, bits in enumerate(widths)}
    for place in axes.keys() - places:
        axes.pop(place).remove()
    return axes


def side_by_side(part: Comparable, names: Sequence[str]) -> dict[str, Any]:
    """A panel a name, at most four side by side; the first `MOST` names."""
    names = names[:MOST]
    columns = min(len(names), 4)
    grid = _subplots(part, ceil(len(names) / columns), columns, sharey=True)
    for ax in grid.flat[len(names):]:
        ax.remove()
    return dict(zip(names, grid.flat, strict=False))


def _subplots(part: Comparable, lines: int, columns: int, **share: bool) -> Any:
    """Panels under a title that says what was run."""
    figure, grid = pyplot().subplots(lines, columns, figsize=(max(3.3 * columns, 4.5), 3 * lines + 0.9),
                                     squeeze=False, layout="constrained", **share)
    figure.suptitle("\n".join(short(text, 120) for text in (part.title, *warnings(part))), fontsize=10)
    return grid


def log_ticks(axes: Mapping[Any, Any], name: str = "x") -> None:
    """A logarithmic axis, x or y, with plain numbers at 1, 2 and 5 or, over many decades, at 1."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    for ax in axes.values():
        ax.set(**{f"{name}scale": "log"})
        axis, (low, high) = getattr(ax, f"{name}axis"), getattr(ax, f"get_{name}lim")()
        wide = LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,))
        axis.set_major_locator(wide if high > 4 * low else MaxNLocator(4))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")


def finished(axes: Mapping[Any, Any], remark: str = "") -> Any:
    """Grid lines, the label of the vertical axis at the left only, and one legend for all panels."""
    figure = next(iter(axes.values())).figure
    handles: dict[str, Any] = {}
    labelled: set[int] = set()  # lines whose first panel was met
    for ax in axes.values():
        ax.grid(alpha=0.3)
        ax.set_axisbelow(True)
        ax.title.set_fontsize(min(12, 330 / max(len(ax.get_title()), 1)))  # a long one ends at its panel's edge
        line = ax.get_subplotspec().rowspan.start
        if line in labelled:
            ax.set_ylabel("")
        labelled.add(line)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            if len(handles) < MOST:
                handles.setdefault(label, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", frameon=False, fontsize=9,
                  ncols=min(len(handles), int(figure.get_figwidth() / 1.4)), title=remark or None, title_fontsize=9)
    return figure
