"""The runs of a plan as a table: a row for each method and bits, columns for each model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import mean
from typing import Any

from aiqvit.harness.identity.labels import variant
from aiqvit.harness.identity.spec import REFERENCE, Run
from aiqvit.harness.store.records import Record, changed_since
from aiqvit.io.names import file_name
from aiqvit.report import footer
from aiqvit.report.frame import tidy
from aiqvit.report.grid import Cell, Grid, Row, measured, ranked
from aiqvit.report.intervals import Intervals, note
from aiqvit.report.labels import changed
from aiqvit.report.marks import marks
from aiqvit.report.marks import notes as mark_notes
from aiqvit.report.metrics import units
from aiqvit.report.published import changes
from aiqvit.report.summary import NONE, UNDEFINED_NOTE, by_cell, summarise, text

Where = tuple[str, str, str, str]  # model, method, label, bits


def build(label: str, metrics: Sequence[str], preset: str, runs: Sequence[Run], records: Mapping[str, Record],
          grid: str = "", headlines: int = 1, typed: Collection[str] = (), intervals: Intervals | None = None) -> Grid:
    """A row for each method and bits; for each model a column for each of the first `headlines` metrics.

    `records` are by run id and hold every run of `runs`; `grid` is the name of the ablation that they make up, if any,
    and `typed` are the settings that were changed for all of it. The table's name says which settings differ.
    """
    records = {run.spec.id: {**records[run.spec.id], "label": run.label,
                             "stale": changed_since(records[run.spec.id], run.source)} for run in runs}
    found: dict[Where, list[Record]] = {}
    for run in {(run.spec.id, run.label): run for run in runs}.values():  # one that is typed twice is one run
        found.setdefault((run.spec.model, run.spec.method, run.label, run.spec.bits), []).append(records[run.spec.id])
    summary = by_cell(summarise(tidy(found, metrics), intervals))
    shown, models = metrics[:headlines], list(dict.fromkeys(run.spec.model for run in runs))
    published = _published(runs, metrics[0])
    beside = [model for model in models if any(model == where[0] for where in published)]
    rows = []
    for method, name, bits in dict.fromkeys(where[1:] for where in found):
        done = [r for model in models for r in found.get((model, method, name, bits), ()) if r["status"] == "done"]
        cells = [_cell(summary, (model, method, name, bits), metric, metrics, shown) for model in models
                 for metric in shown]
        others = [Cell(published.get((model, bits, name), NONE)) for model in beside]
        rows.append(Row((bits, name + marks(done)), (*cells, Cell(_minutes(method, done)), *others), bits,
                        "" if method == REFERENCE else bits))
    columns = [*(f"{model} {metric}" for model in models for metric in shown), "Minutes",
               *(f"{model} published" for model in beside)]
    used, limit = [records[run.spec.id] for run in runs], runs[0].spec.limit
    notes = _notes(runs, records)
    if any(cell.n < cell.done for cell in summary.values() if cell.metric in shown):
        notes.append(UNDEFINED_NOTE)
    if beside:
        notes.append("published: change from full precision on all of the data set, and the paper that prints it")
    notes.append(note(intervals, (cell.basis for cell in summary.values())))
    differing = changed(runs, typed if grid else None)
    file = file_name("-".join(filter(None, [label, preset, grid, differing, f"limit{limit}" if limit else ""])))
    return Grid(file, _caption(label, shown, preset, runs, used), ("W/A", "Method"), tuple((c,) for c in columns),
                ranked(rows, intervals), tuple(notes), tuple(_fields(metrics)))


def _cell(summary: Mapping[tuple[str, ...], Any], where: Where, metric: str, metrics: Sequence[str],
          shown: Sequence[str]) -> Cell:
    """One number; the first of a model has the line of the CSV, with all of its metrics."""
    cell = summary.get((*where, metric))
    has_line = cell is not None and metric == shown[0]
    line = _line(where, [summary.get((*where, name)) for name in metrics]) if has_line else {}
    return measured(cell, text(cell, count="n={}", change=True), numbers=line)


def _fields(metrics: Sequence[str]) -> list[str]:
    return ["bits", "method", "model", "runs", "failed",
            *(f"{metric}{end}" for metric in metrics for end in ("", "_std", "_drop")),
            *(f"{metric}_{end}" for metric in metrics for end in ("low", "high", "basis")),
            "minutes", "images", "calibration_images", "run_ids", "marks"]


def _line(where: Where, cells: Sequence[Any]) -> dict[str, Any]:
    first = next(filter(None, cells))
    line = {"bits": where[3], "method": where[2], "model": where[0], "runs": first.done, "failed": first.failed}
    for cell in filter(None, cells):
        name = cell.metric
        line |= {name: cell.value, f"{name}_std": cell.value_std, f"{name}_drop": -cell.change,
                 f"{name}_low": cell.low, f"{name}_high": cell.high, f"{name}_basis": cell.basis}
    return {**line, "minutes": first.seconds / 60, "images": first.images,
            "calibration_images": first.calibration_images, "run_ids": first.ids, "marks": first.marks}


def _published(runs: Sequence[Run], metric: str) -> dict[tuple[str, str, str], str]:
    """(model, bits, method) -> `-9.88 (AIQViT)`, all sources, those that print the same number together."""
    found = {}
    for run in runs:
        spec, sources = run.spec, {}
        for source, change in changes(spec.task, spec.model, spec.method, spec.bits, metric,
                                      variant(spec.settings, run.defaults)).items():
            sources.setdefault(f"{change:+.1f}", []).append(source)
        if sources and not run.reference:
            found[spec.model, spec.bits, run.label] = ", ".join(f"{c} ({'; '.join(s)})" for c, s in sources.items())
    return found


def _minutes(method: str, done: Sequence[Record]) -> str:
    seconds = [r["times"]["quantize"] for r in done]
    if not seconds or method == REFERENCE:
        return NONE
    return f"{mean(seconds) / 60:.1f}" if mean(seconds) >= 3 else "<0.1"


def _caption(label: str, shown: Sequence[str], preset: str, runs: Sequence[Run], records: Sequence[Record]) -> str:
    done = [r for r in records if r["status"] == "done"]
    counts = _list(f"{r['metrics'].get('images', '?')} of {r['data'].get('val', '?')}" for r in done)
    calibration = _list(
        f"{run.label} {r['calibration_images']}"
        for run, r in zip(runs, records, strict=True)
        if r["status"] == "done" and not run.reference
    )
    versions = _list(f"{k} {v}" for r in done for k, v in r["manifest"].get("packages", {}).items())
    protocols = _list(getattr(run.method, "protocol", "unified") for run in runs if not run.reference)
    weights = _list(f"{run.spec.model} {run.spec.weights[:6]}" for run in runs)
    seeds = _list(run.spec.seed for run in runs if not run.reference)
    parts = [
        f"{label}, preset {preset}: {units(shown)}, in parentheses the change from full precision",
        f"LIMITED to {runs[0].spec.limit} images, not comparable with full runs" if runs[0].spec.limit else "",
        f"{counts or 'no'} validation images",
        f"protocol {protocols}" if protocols else "",
        f"calibration images: {calibration}" if calibration else "",
        f"seeds {seeds}" if seeds else "",
        f"weights {weights}",
        "minutes to quantize one model (mean of the row)",
        f"versions: {versions}" if versions else "",
    ]
    return "; ".join(filter(None, parts))


def _notes(runs: Sequence[Run], records: Mapping[str, Record]) -> list[str]:
    notes = {f"{run.method.title}: {run.method.note}": None for run in runs if run.method.note}
    for run in runs:
        record = records[run.spec.id]
        if record["status"] == "failed":
            notes[f"failed: {run.spec.model}, {run.label}, {run.spec.bits}, seed {run.spec.seed}: "
                  f"{footer.reason(record)}"] = None
        if skipped := record["data"].get("skipped"):
            why = f" ({record['data']['why']})" if record["data"].get("why") else ""
            notes[f"skipped {len(skipped)} broken image files: {', '.join(skipped[:5])}{why}"] = None
    found = list(records.values())
    return [*notes, *footer.of_data(found), *footer.of_inputs(found), *mark_notes(found)]


def _list(values: Any) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))
