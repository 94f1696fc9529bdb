"""Figures of one part's records: each function gives a matplotlib figure, or None when there is nothing to draw."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from statistics import mean
from typing import Any

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record
from aiqvit.report import style
from aiqvit.report.cells import Key, cells
from aiqvit.report.numbers import drawable, spread, values
from aiqvit.report.panels import finished, log_ticks, matrix, pyplot, short, side_by_side, width
from aiqvit.report.records import Comparable

MOST = 400  # units or layers in a panel


def by_bits(part: Comparable) -> Any:
    """The metric against the bit width, a line a method, a panel a model; error bars over seeds."""
    found, metric, label = _scored(part)
    if not any(method != REFERENCE for _, method, *_ in found):
        return None
    axes = side_by_side(part, _models(found))
    bits = sorted({b for *_, b in found if b != "32/32"}, key=width)
    for model, ax in axes.items():
        _reference_line(ax, found, model, metric)
        methods = style.order({m for where, m, *_ in found if where == model} - {REFERENCE})
        for i, method in enumerate(methods):  # a little beside each other, so that none hides another
            points = [(bits.index(b), r) for b in bits if (r := found.get((model, method, "", b)))]
            scores = [values(runs, metric) for _, runs in points]
            spreads = [spread(v) or 0 for v in scores]
            ax.errorbar([x + 0.03 * (i - (len(methods) - 1) / 2) for x, _ in points], [mean(v) for v in scores],
                        spreads if any(spreads) else None, capsize=3, **_look(method, points[0][1]), linewidth=1.4)
        ax.set_xticks(range(len(bits)), bits)
        ax.set_xlim(-0.25, len(bits) - 0.75)
        ax.set(title=short(model), xlabel="bits (weights/activations)", ylabel=label)
    return finished(axes, _left_out(part))


def by_minutes(part: Comparable) -> Any:
    """The metric against the minutes that quantization took, a panel a model and bit width."""
    found, metric, label = _scored(part)
    places = {(model, b) for model, method, _, b in found if method != REFERENCE}
    if not places:
        return None
    axes = matrix(part, places, sharex=True, sharey=True)
    for (model, bits), ax in axes.items():
        _reference_line(ax, found, model, metric)
        for method in style.order(m for where, m, _, b in found if (where, b) == (model, bits)):
            runs = found[model, method, "", bits]
            minutes = mean(max(r["times"]["quantize"], 0.1) for r in runs) / 60
            ax.plot(minutes, mean(values(runs, metric)), linestyle="none", markersize=8,
                    **_look(method, runs))
        ax.margins(x=0.15)
        ax.set(title=short(f"{model} {bits}"), xlabel="minutes to quantize (log scale)", ylabel=label)
    log_ticks(axes)
    return finished(axes, _left_out(part))


def intervals(part: Comparable) -> Any:
    """The intervals that DFQ learned, by layer (AIQViT's Figure 4a), a panel a model and bit width."""
    panels = {(model, bits): runs[0] for (model, _, _, bits), runs in _plain(part).items() if _bounds(runs[0])}
    if not panels:
        return None
    axes = matrix(part, panels)
    for (model, bits), ax in axes.items():
        record = panels[model, bits]
        bounds = _bounds(record)
        layers = range(1, len(bounds) + 1)
        ax.bar(layers, [b2 - b1 for b1, b2 in bounds], bottom=[b1 for b1, _ in bounds], width=0.7,
               color=style.colour(record["spec"]["method"]), label=_title([record]))
        ax.set_xticks(list(layers)[:: ceil(len(bounds) / 12)])
        ax.set(title=short(f"{model} {bits}"), xlabel="attention layer", ylabel="attention weight, b1 to b2",
               ylim=(0, None))
    return finished(axes, _left_out(part))


def by_calibration(part: Comparable) -> Any:
    """The metric against the number of calibration samples (AIQViT's Figure 4b), a line a method and bit width.

    Other settings, weights or versions are lines of their own.
    """
    series: dict[Key, dict[int, list[Record]]] = defaultdict(dict)
    metric, label = style.headline(next((r["metrics"] for r in part.records if r["status"] == "done"), {}))
    for (model, method, variant, bits), runs in _chosen(part).items():
        if method != REFERENCE and values(runs, metric):
            other = re.sub(r"(^|,)images=\d+(?=,|$)", "", variant).strip(",")
            series[model, method, other, bits].setdefault(runs[0]["calibration_images"], runs)
    series = {where: sizes for where, sizes in series.items() if len(sizes) > 1}
    if not series:
        return None
    axes = side_by_side(part, list(dict.fromkeys(model for model, *_ in series)))
    styles = {bits: ("-", "--", ":", "-.")[i % 4] for i, bits in enumerate(sorted({b for *_, b in series}, key=width))}
    for (model, method, other, bits), sizes in series.items():
        if model not in axes:
            continue
        xs, runs = sorted(sizes), next(iter(sizes.values()))
        name = f"{_title(runs)} [{other}]" if other else _title(runs)
        look = _look(method, runs) | {"label": short(f"{name} {bits}")}
        axes[model].plot(xs, [mean(values(sizes[x], metric)) for x in xs], styles[bits], **look)
        axes[model].set_xscale("log", base=2)
        axes[model].xaxis.set_major_formatter("{x:.0f}")
        axes[model].xaxis.set_minor_formatter("")
        axes[model].set(title=short(model), xlabel="calibration samples (log scale)", ylabel=label)
    return finished(axes)


def by_block(part: Comparable) -> Any:
    """The loss of every unit before (dotted) and after (solid) reconstruction, in each method's own loss."""
    panels: dict[tuple[str, str], dict[str, Record]] = defaultdict(dict)
    for (model, method, _, bits), runs in _plain(part).items():
        if _losses(runs[0]):
            panels[model, bits][method] = runs[0]
    if not panels:
        return None
    axes = matrix(part, panels, sharey=True)
    for (model, bits), ax in axes.items():
        units: list[str] = []
        for method in style.order(panels[model, bits]):
            record = panels[model, bits][method]
            losses = _losses(record)
            units += [unit for unit in losses if unit not in units]
            at = [units.index(unit) for unit in losses]
            ax.plot(at, [after for _, after in losses.values()], **_look(method, [record]))
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


def _chosen(part: Comparable) -> dict[Key, list[Record]]:
    """The runs of each cell that ended well."""
    return {key: done for key, runs in cells(part.records).items()
            if (done := [r for r in runs if r["status"] == "done"])}


def _plain(part: Comparable) -> dict[Key, list[Record]]:
    """The same, without variants of methods."""
    return {key: runs for key, runs in _chosen(part).items() if not key[2]}


def _left_out(part: Comparable) -> str:
    """Says that there are variants, which would pass for the method itself."""
    count = sum(bool(key[2]) for key in _chosen(part))
    return f"{count} variants (other settings, weights or versions) are not drawn" if count else ""


def _models(found: Mapping[Key, Any]) -> list[str]:
    return list(dict.fromkeys(model for model, method, *_ in found if method != REFERENCE))


def _scored(part: Comparable) -> tuple[dict[Key, list[Record]], str, str]:
    """The same with a defined headline metric, that metric and its label."""
    found = _plain(part)
    metric, label = style.headline(next(iter(found.values()))[0]["metrics"]) if found else ("", "")
    return {key: runs for key, runs in found.items() if values(runs, metric)}, metric, label


def _title(runs: Sequence[Record]) -> str:
    return short(runs[0]["label"].partition(" [")[0])


def _look(method: str, runs: Sequence[Record]) -> dict[str, Any]:
    return {"color": style.colour(method), "marker": style.marker(method), "label": _title(runs)}


def _reference_line(ax: Any, found: Mapping[Key, list[Record]], model: str, metric: str) -> None:
    if runs := found.get((model, REFERENCE, "", "32/32")):
        ax.axhline(values(runs, metric)[0], color=style.colour(REFERENCE), linestyle="--", linewidth=1,
                   label=_title(runs))


def drawn(part: Comparable, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """(name, figure) for the figures that the part has data for; each is closed when the next one is asked for."""
    for name in names:
        figure = FIGURES[name](part)
        if figure is not None:
            yield name, figure
            pyplot().close(figure)
