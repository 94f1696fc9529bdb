"""Figures of one part's records: each function gives a matplotlib figure, or None when there is nothing to draw."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil, isnan
from typing import Any

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record
from aiqvit.report import style
from aiqvit.report.cells import cells
from aiqvit.report.frame import tidy
from aiqvit.report.metrics import headline, metric
from aiqvit.report.numbers import drawable
from aiqvit.report.panels import finished, log_ticks, matrix, pyplot, short, side_by_side, width
from aiqvit.report.records import Comparable
from aiqvit.report.summary import summarise

MOST = 400  # units or layers in a panel


def by_bits(part: Comparable) -> Any:
    """The metric against the bit width, a line a method, a panel a model; error bars over seeds."""
    found = _scored(part)
    if not any(cell.method != REFERENCE for cell in found):
        return None
    axes = side_by_side(part, _models(found))
    bits = sorted({cell.bits for cell in found if cell.method != REFERENCE}, key=width)
    for model, ax in axes.items():
        _reference_line(ax, found, model)
        lines = _by_method(cell for cell in found if cell.model == model and cell.method != REFERENCE)
        for i, (method, points) in enumerate(lines.items()):  # a little beside each other, so that none hides another
            points = sorted(points, key=lambda cell: width(cell.bits))
            spreads = [0 if isnan(cell.value_std) else cell.value_std for cell in points]
            ax.errorbar([bits.index(cell.bits) + 0.03 * (i - (len(lines) - 1) / 2) for cell in points],
                        [cell.value for cell in points], spreads if any(spreads) else None, capsize=3,
                        **_look(method, points[0].label), linewidth=1.4)
        ax.set_xticks(range(len(bits)), bits)
        ax.set_xlim(-0.25, len(bits) - 0.75)
        ax.set(title=short(model), xlabel="bits (weights/activations)", ylabel=metric(found[0].metric).axis)
    return finished(axes, _left_out(part))


def by_minutes(part: Comparable) -> Any:
    """The metric against the minutes that quantization took, a panel a model and bit width."""
    found = _scored(part)
    places = {(cell.model, cell.bits) for cell in found if cell.method != REFERENCE}
    if not places:
        return None
    axes = matrix(part, places, sharex=True, sharey=True)
    for (model, bits), ax in axes.items():
        _reference_line(ax, found, model)
        for method, (cell,) in _by_method(c for c in found if (c.model, c.bits) == (model, bits)).items():
            ax.plot(max(cell.seconds, 0.1) / 60, cell.value, linestyle="none", markersize=8,
                    **_look(method, cell.label))
        ax.margins(x=0.15)
        ax.set(title=short(f"{model} {bits}"), xlabel="minutes to quantize (log scale)",
               ylabel=metric(found[0].metric).axis)
    log_ticks(axes)
    return finished(axes, _left_out(part))


def intervals(part: Comparable) -> Any:
    """The intervals that DFQ learned, by layer (AIQViT's Figure 4a), a panel a model and bit width."""
    panels = {(cell.model, cell.bits): cell for cell in _plain(part) if _bounds(cell.runs[0])}
    if not panels:
        return None
    axes = matrix(part, panels)
    for (model, bits), ax in axes.items():
        cell = panels[model, bits]
        bounds = _bounds(cell.runs[0])
        layers = range(1, len(bounds) + 1)
        ax.bar(layers, [b2 - b1 for b1, b2 in bounds], bottom=[b1 for b1, _ in bounds], width=0.7,
               color=style.colour(cell.method), label=_title(cell.label))
        ax.set_xticks(list(layers)[:: ceil(len(bounds) / 12)])
        ax.set(title=short(f"{model} {bits}"), xlabel="attention layer", ylabel="attention weight, b1 to b2",
               ylim=(0, None))
    return finished(axes, _left_out(part))


def by_calibration(part: Comparable) -> Any:
    """The metric against the number of calibration samples (AIQViT's Figure 4b), a line a method and bit width.

    Other settings, weights or versions are lines of their own.
    """
    series: dict[tuple[str, ...], dict[int, Any]] = defaultdict(dict)
    for cell in _scored(part, variants=True):
        if cell.method != REFERENCE:
            other = re.sub(r"(^|,)images=\d+(?=,|$)", "", cell.variant).strip(",")
            series[cell.model, cell.method, other, cell.bits].setdefault(cell.calibration_images, cell)
    series = {where: sizes for where, sizes in series.items() if len(sizes) > 1}
    if not series:
        return None
    axes = side_by_side(part, list(dict.fromkeys(model for model, *_ in series)))
    styles = {bits: ("-", "--", ":", "-.")[i % 4] for i, bits in enumerate(sorted({b for *_, b in series}, key=width))}
    for (model, method, other, bits), sizes in series.items():
        if model not in axes:
            continue
        points = [sizes[count] for count in sorted(sizes)]
        title = _title(next(iter(sizes.values())).label)
        look = _look(method, title) | {"label": short(f"{f'{title} [{other}]' if other else title} {bits}")}
        axes[model].plot(sorted(sizes), [cell.value for cell in points], styles[bits], **look)
        axes[model].set_xscale("log", base=2)
        axes[model].xaxis.set_major_formatter("{x:.0f}")
        axes[model].xaxis.set_minor_formatter("")
        axes[model].set(title=short(model), xlabel="calibration samples (log scale)",
                        ylabel=metric(points[0].metric).axis)
    return finished(axes)


def by_block(part: Comparable) -> Any:
    """The loss of every unit before (dotted) and after (solid) reconstruction, in each method's own loss."""
    panels: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for cell in _plain(part):
        if _losses(cell.runs[0]):
            panels[cell.model, cell.bits].append(cell)
    if not panels:
        return None
    axes = matrix(part, panels, sharey=True)
    for (model, bits), ax in axes.items():
        units: list[str] = []
        for method, (cell,) in _by_method(panels[model, bits]).items():
            losses = _losses(cell.runs[0])
            units += [unit for unit in losses if unit not in units]
            at = [units.index(unit) for unit in losses]
            ax.plot(at, [after for _, after in losses.values()], **_look(method, cell.label))
            ax.plot(at, [before for before, _ in losses.values()], linestyle=":", color=style.colour(method))
        names = [unit.replace("blocks.", "").replace("layers.", "").replace("patch_embed", "patch") for unit in units]
        step = ceil(len(units) / 60)
        ax.set_xticks(range(0, len(units), step), [short(name, 24) for name in names[::step]],
                      rotation=90 if len(units) > 8 else 0)
        ax.set(title=short(f"{model} {bits}"), xlabel="unit (block)", ylabel="reconstruction loss")
    log_ticks(axes, "y")
    remarks = ["dotted: before reconstruction, solid: after; each method in its own loss", _left_out(part)]
    return finished(axes, "\n".join(filter(None, remarks)))


def _bounds(record: Record) -> list[tuple[float, float]]:
    """The learned intervals of a run, layer by layer; what is no pair of numbers is left out."""
    logged = ((entry.get("b1"), entry.get("b2")) for entry in record["log"][:MOST])
    pairs = [pair for both in logged if all(isinstance(side, list) for side in both)
             for pair in zip(*both, strict=False)]
    return [(low, high) for low, high in (tuple(map(drawable, pair)) for pair in pairs[:MOST])
            if low is not None and high is not None]


def _losses(record: Record) -> dict[str, tuple[float, float]]:
    """Unit -> loss before, and after where that was kept; those that a logarithmic axis can show."""
    found = {}
    for entry in record["log"][:MOST]:
        before, after = drawable(entry.get("loss_before")), drawable(entry.get("loss_after"))
        if before is not None and after is not None and before > 0 and after > 0:
            found[str(entry.get("unit", ""))] = before, after if entry.get("kept", True) else before
    return found


FIGURES: dict[str, Callable[[Comparable], Any]] = {
    "bits": by_bits, "minutes": by_minutes, "intervals": intervals, "calibration": by_calibration, "blocks": by_block}


def _cells(part: Comparable) -> list[Any]:
    """The rows of the summary with runs that ended well."""
    return [cell for cell in summarise(tidy(cells(part.records))).itertuples() if cell.done]


def _plain(part: Comparable) -> list[Any]:
    """One a model, method and bits, without variants of methods."""
    return list({(cell.model, cell.method, cell.bits): cell for cell in _cells(part) if not cell.variant}.values())


def _scored(part: Comparable, variants: bool = False) -> list[Any]:
    """Those with a defined headline metric."""
    found = [cell for cell in _cells(part) if variants or not cell.variant]
    first = headline(cell.metric for cell in found)
    return [cell for cell in found if cell.metric == first and cell.n]


def _left_out(part: Comparable) -> str:
    """Says that there are variants, which would pass for the method itself."""
    count = len({(cell.model, cell.method, cell.variant, cell.bits) for cell in _cells(part) if cell.variant})
    return f"{count} variants (other settings, weights or versions) are not drawn" if count else ""


def _models(found: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(cell.model for cell in found if cell.method != REFERENCE))


def _by_method(found: Iterable[Any]) -> dict[str, list[Any]]:
    """Method -> its cells, in display order."""
    lines: dict[str, list[Any]] = defaultdict(list)
    for cell in found:
        lines[cell.method].append(cell)
    return {method: lines[method] for method in style.order(lines)}


def _title(label: str) -> str:
    return short(label.partition(" [")[0])


def _look(method: str, label: str) -> dict[str, Any]:
    return {"color": style.colour(method), "marker": style.marker(method), "label": _title(label)}


def _reference_line(ax: Any, found: Iterable[Any], model: str) -> None:
    for cell in found:
        if (cell.model, cell.method) == (model, REFERENCE):
            ax.axhline(cell.value, color=style.colour(REFERENCE), linestyle="--", linewidth=1, label=_title(cell.label))


def drawn(part: Comparable, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """(name, figure) for the figures that the part has data for; each is closed when the next one is asked for."""
    for name in names:
        figure = FIGURES[name](part)
        if figure is not None:
            yield name, figure
            pyplot().close(figure)
