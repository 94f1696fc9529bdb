"""One self-contained HTML page of results folders: sortable tables, figures, scheme cards, manifests."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from pandas import DataFrame

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record, plain
from aiqvit.io.escape import terminal
from aiqvit.report import footer, marks, plots, units
from aiqvit.report.cells import cells, unequal
from aiqvit.report.frame import CELL, tidy
from aiqvit.report.grid import Cell, Grid, Row, measured, ranked
from aiqvit.report.intervals import Intervals, note
from aiqvit.report.markup import html_table
from aiqvit.report.metrics import heading, headline
from aiqvit.report.panels import pyplot, rendered, width
from aiqvit.report.records import About, Comparable
from aiqvit.report.summary import NONE, UNDEFINED_NOTE, summarise, text

MOST = 100_000  # characters of a record that are shown
CARD = ("role", "kind", "quantizer", "bits", "granularity", "note", "sites")
SHOWN = ("spec", "defaults", "coverage", "metrics", "fp32", "calibration_images", "times", "peak_mib", "data",
         "manifest")  # what of a record stands under its run


def render(title: str, parts: Sequence[Comparable], methods: Mapping[str, About],
           intervals: Intervals | None = None) -> str:
    """The page, everything in it escaped; `methods` are by registered name. Raises `UserError` without matplotlib."""
    pyplot()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     finalize=lambda value: terminal(value) if type(value) is str else value)
    template = environment.from_string((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
    runs = {record["id"]: record for part in parts for record in part.records}
    return template.render(title=title, total=len(runs), failed=sum(r["status"] == "failed" for r in runs.values()),
                           sections=[_section(part, methods, intervals) for part in parts])


def _section(part: Comparable, methods: Mapping[str, About], intervals: Intervals | None) -> dict[str, Any]:
    found = cells(part.records)
    summary = summarise(tidy(found), intervals)
    metrics = [name for name in summary.metric.unique() if name]
    done = [r for runs in found.values() for r in runs if r["status"] == "done"]
    shown = [about for name in dict.fromkeys(r["spec"]["method"] for r in done) if (about := methods.get(name))]
    remarks = [f"{about.title}: {about.note}" for about in shown if about.note]
    remarks += [*marks.notes(done), *footer.conditions(part, done), *footer.of_fairness(done, methods)]
    remarks += footer.scheme_differences(done)
    remarks += [UNDEFINED_NOTE] if (summary.n < summary.done).any() else []
    remarks += [*footer.of_data(done), *footer.of_inputs(done), *unequal(found)]
    remarks += [f"versions: {footer.versions(done)}", note(intervals, zip(summary.metric, summary.basis, strict=True))]
    return {
        "name": part.title, "warnings": footer.warnings(part), "notes": remarks, "cards": _cards(done),
        "table": Markup(html_table(_grid(summary, metrics, intervals), "sortable")),  # noqa: S704  escaped
        "runs": list(map(_run, part.records)),
        "figures": [{"caption": plots.FIGURES[name][1], "data": _svg(figure)}
                    for name, figure in plots.drawn(part, list(plots.FIGURES))],
    }


def _grid(summary: DataFrame, metrics: Sequence[str], intervals: Intervals | None) -> Grid:
    """A row for each model, bits and method: by model, full precision first, then bits from low to high."""
    first = headline(metrics)
    rows = []
    for (model, method, _, bits), group in summary.groupby(CELL[:-1], sort=False):
        own = {cell.metric: cell for cell in group.itertuples()}
        run, main, quantized = next(iter(own.values())), own.get(first), method != REFERENCE
        more = [
            _amount(main.change, main.change_std, "{:+.2f}") if main and quantized else NONE,
            _amount(run.seconds / 60, run.seconds_std / 60, "{:.2f}") if quantized else NONE,
            _amount(run.peak_mib, run.peak_mib_std, "{:.0f}"), str(run.done + run.failed),
            NONE if run.images is None else f"{run.images:.0f}"]
        entries = (*(measured(own.get(name), text(own.get(name))) for name in metrics), *map(Cell, more))
        rows.append(Row((model, bits, run.label + run.marks), entries, ranked=f"{model} {bits}" if quantized else ""))
    rows.sort(key=lambda row: (row.heads[0], row.heads[1] != "32/32", width(row.heads[1])))
    heads = [*map(heading, metrics), f"{first} change (points)", "Minutes", "Peak MiB", "Seeds", "Samples"]
    return Grid("", "", ("Model", "W/A", "Method"), tuple((head,) for head in heads), ranked(rows, intervals))


def _amount(value: float, deviation: float, form: str) -> str:
    if isnan(value):
        return NONE
    return form.format(value) + ("" if isnan(deviation) else f" ± {deviation:.2f}")


def _cards(done: Sequence[Record]) -> list[dict[str, Any]]:
    """One scheme card a method and bit width."""
    cards = {f"{r['label']} {r['spec']['bits']}": r for r in done if r["scheme"]}
    return [{"title": title, "said": record.get("rewritten", ()), "header": CARD,
             "rows": [[row.get(name, "") for name in CARD] for row in record["scheme"]]}
            for title, record in sorted(cards.items())]


def _run(record: Record) -> dict[str, Any]:
    shown = {key: record[key] for key in SHOWN if key in record}
    return {"id": record["id"], "error": record.get("error"), "log": units.grid(record),
            "text": json.dumps(plain(shown), indent=1, ensure_ascii=False)[:MOST]}


def _svg(figure: Any) -> str:
    """The figure as base64 of an SVG, the same for the same numbers."""
    return base64.b64encode(rendered(figure, "svg")).decode()
