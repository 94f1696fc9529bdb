"""Figures of one part's records: each function gives a matplotlib figure, or None when there is nothing to draw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any

from pandas import DataFrame, to_numeric

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record
from aiqvit.report import style
from aiqvit.report.frame import CELL
from aiqvit.report.metrics import headline, metric
from aiqvit.report.panels import finished, log_ticks, matrix, pyplot, short, side_by_side, width
from aiqvit.report.records import Comparable

MOST = 400  # units or layers in a panel
LARGEST = 1e12  # number on an axis
KEY = CELL[:-1]


def by_bits(part: Comparable) -> Any:
    """The metric against the bit width, a line a method, a panel a model; error bars over seeds."""
    found = _scored(part)
    quantized = found[found.method != REFERENCE]
    if quantized.empty:
        return None
    axes = side_by_side(part, quantized.model.unique())
    bits = sorted(quantized.bits.unique(), key=width)
    for model, ax in axes.items():
        _reference_line(ax, found, model)
        lines = _lines(quantized[quantized.model == model])
        for i, line in enumerate(lines):  # a little beside each other, so that none hides another
            spreads = line.value_std.fillna(0)
            ax.errorbar(line.bits.map(bits.index) + 0.03 * (i - (len(lines) - 1) / 2), line.value,
                        spreads if spreads.any() else None, capsize=3, **_look(line), linewidth=1.4)
        ax.set_xticks(range(len(bits)), bits)
        ax.set_xlim(-0.25, len(bits) - 0.75)
        ax.set(title=short(model), xlabel="bits (weights/activations)", ylabel=_axis(found))
    return finished(axes, _left_out(part))


def by_minutes(part: Comparable) -> Any:
    """The metric against the minutes that quantization took, a panel a model and bit width."""
    found = _scored(part)
    panels = dict(list(found[found.method != REFERENCE].groupby(["model", "bits"])))
    if not panels:
        return None
    axes = matrix(part, panels, sharex=True, sharey=True)
    for (model, bits), ax in axes.items():
        _reference_line(ax, found, model)
        for point in _lines(panels[model, bits]):
            ax.plot(point.seconds.clip(lower=0.1) / 60, point.value, linestyle="none", markersize=8, **_look(point))
        ax.margins(x=0.15)
        ax.set(title=short(f"{model} {bits}"), xlabel="minutes to quantize (log scale)", ylabel=_axis(found))
    log_ticks(axes)
    return finished(axes, _left_out(part))


def intervals(part: Comparable) -> Any:
    """The intervals that DFQ learned, by layer (AIQViT's Figure 4a), a panel a model and bit width."""
    panels = _logged(part, _bounds)
    if not panels:
        return None
    axes = matrix(part, panels)
    for (model, bits), ax in axes.items():
        line, bounds = panels[model, bits][-1]
        layers = range(1, len(bounds) + 1)
        ax.bar(layers, [b2 - b1 for b1, b2 in bounds], bottom=[b1 for b1, _ in bounds], width=0.7,
               color=_look(line)["color"], label=_look(line)["label"])
        ax.set_xticks(list(layers)[:: ceil(len(bounds) / 12)])
        ax.set(title=short(f"{model} {bits}"), xlabel="attention layer", ylabel="attention weight, b1 to b2",
               ylim=(0, None))
    return finished(axes, _left_out(part))


def by_calibration(part: Comparable) -> Any:
    """The metric against the number of calibration samples (AIQViT's Figure 4b), a line a method and bit width.

    Other settings, weights or versions are lines of their own.
    """
    found = _scored(part, variants=True)
    found = found.assign(variant=found.variant.str.replace(r"(^|,)images=\d+(?=,|$)", "", regex=True).str.strip(","))
    found = found[found.method != REFERENCE].drop_duplicates([*KEY, "calibration_images"])
    lines = [line for _, line in found.groupby(KEY, sort=False) if len(line) > 1]
    if not lines:
        return None
    axes = side_by_side(part, list(dict.fromkeys(line.model.iloc[0] for line in lines)))
    widths = sorted({line.bits.iloc[0] for line in lines}, key=width)
    for line in lines:
        model, _, other, bits = line[KEY].iloc[0]
        if model not in axes:
            continue
        look, style_of = _look(line), ("-", "--", ":", "-.")[widths.index(bits) % 4]
        look["label"] = short(f"{look['label']}{f' [{other}]' if other else ''} {bits}")
        line = line.sort_values("calibration_images")
        axes[model].plot(line.calibration_images.to_list(), line.value, style_of, **look)
        axes[model].set_xscale("log", base=2)
        axes[model].xaxis.set_major_formatter("{x:.0f}")
        axes[model].xaxis.set_minor_formatter("")
        axes[model].set(title=short(model), xlabel="calibration samples (log scale)", ylabel=_axis(found))
    return finished(axes)


def by_block(part: Comparable) -> Any:
    """The loss of every unit before (dotted) and after (solid) reconstruction, in each method's own loss."""
    panels = _logged(part, _losses)
    if not panels:
        return None
    axes = matrix(part, panels, sharey=True)
    for (model, bits), ax in axes.items():
        logged = sorted(panels[model, bits], key=lambda pair: style.rank(pair[0].method.iloc[0]))
        units = list(dict.fromkeys(unit for _, losses in logged for unit in losses))
        for line, losses in logged:
            at = [units.index(unit) for unit in losses]
            ax.plot(at, [after for _, after in losses.values()], **_look(line))
            ax.plot(at, [before for before, _ in losses.values()], linestyle=":", color=_look(line)["color"])
        names = [unit.replace("blocks.", "").replace("layers.", "").replace("patch_embed", "patch") for unit in units]
        step = ceil(len(units) / 60)
        ax.set_xticks(range(0, len(units), step), [short(name, 24) for name in names[::step]],
                      rotation=90 if len(units) > 8 else 0)
        ax.set(title=short(f"{model} {bits}"), xlabel="unit (block)", ylabel="reconstruction loss")
    log_ticks(axes, "y")
    remarks = ["dotted: before reconstruction, solid: after; each method in its own loss", _left_out(part)]
    return finished(axes, "\n".join(filter(None, remarks)))


def _bounds(record: Record) -> list[tuple[float, float]]:
    """The learned intervals of a run, layer by layer."""
    pairs = [pair for entry in record["log"][:MOST]
             for pair in zip(entry.get("b1", ()), entry.get("b2", ()), strict=False)]
    return list(_drawable(pairs[:MOST]).itertuples(index=False, name=None))


def _losses(record: Record) -> dict[str, tuple[float, float]]:
    """Unit -> loss before, and after where that was kept; those that a logarithmic axis can show."""
    log = record["log"][:MOST]
    losses = _drawable([(entry.get("loss_before"), entry.get("loss_after")) for entry in log])
    return {str(log[i].get("unit", "")): (before, after if log[i].get("kept", True) else before)
            for i, before, after in losses[(losses > 0).all(axis=1)].itertuples(name=None)}


def _drawable(pairs: Sequence[tuple[Any, Any]]) -> DataFrame:
    """Those pairs of logged values that are numbers which an axis can show."""
    found = DataFrame(pairs, columns=["low", "high"], dtype=object).apply(to_numeric, errors="coerce").astype(float)
    return found[(found.abs() <= LARGEST).all(axis=1)]


FIGURES: dict[str, tuple[Callable[[Comparable], Any], str]] = {
    "bits": (by_bits, "Metric against bit width"),
    "minutes": (by_minutes, "Metric against the time that quantization took"),
    "intervals": (intervals, "Intervals of the dynamic focusing quantizer by layer"),
    "calibration": (by_calibration, "Metric against the number of calibration samples"),
    "blocks": (by_block, "Reconstruction loss by unit")}


def _cells(part: Comparable, variants: bool = False) -> DataFrame:
    """The summary where runs ended well."""
    found = part.summary
    return found[(found.done > 0) & (variants | (found.variant == ""))]


def _scored(part: Comparable, variants: bool = False) -> DataFrame:
    """Those with a defined headline metric."""
    found = _cells(part, variants)
    return found[(found.metric == headline(found.metric)) & (found.n > 0)]


def _logged(part: Comparable, read: Callable[[Record], Any]) -> dict[tuple[str, str], list[tuple[DataFrame, Any]]]:
    """(model, bits) -> what `read` finds in the log of the first run of each method, where it finds something."""
    panels: dict[tuple[str, str], list[tuple[DataFrame, Any]]] = defaultdict(list)
    for (model, _, _, bits), cell in _cells(part).groupby(KEY, sort=False):
        if logged := read(cell.runs.iloc[0][0]):
            panels[model, bits].append((cell, logged))
    return panels


def _left_out(part: Comparable) -> str:
    """Says that there are variants, which would pass for the method itself."""
    found = _cells(part, variants=True)
    count = len(found[found.variant != ""].drop_duplicates(KEY))
    return f"{count} variants (other settings, weights or versions) are not drawn" if count else ""


def _lines(found: DataFrame) -> list[DataFrame]:
    """One a method, in display order, bits from low to high."""
    lines = sorted(found.groupby("method"), key=lambda pair: style.rank(pair[0]))
    return [line.sort_values("bits", key=lambda bits: bits.map(width), kind="stable") for _, line in lines]


def _axis(found: DataFrame) -> str:
    return metric(found.metric.iloc[0]).axis


def _look(line: DataFrame) -> dict[str, Any]:
    method, label = line.method.iloc[0], line.label.iloc[0]
    return {"color": style.colour(method), "marker": style.marker(method), "label": short(label.partition(" [")[0])}


def _reference_line(ax: Any, found: DataFrame, model: str) -> None:
    line = found[(found.model == model) & (found.method == REFERENCE)]
    if not line.empty:
        look = _look(line)
        ax.axhline(line.value.iloc[0], color=look["color"], linestyle="--", linewidth=1, label=look["label"])


def drawn(part: Comparable, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """(name, figure) for the figures that the part has data for; each is closed when the next one is asked for."""
    for name in names:
        figure = FIGURES[name][0](part)
        if figure is not None:
            yield name, figure
            pyplot().close(figure)
