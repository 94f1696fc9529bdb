"""The runs of a plan as a table: a row for each method and bits, columns for each model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from aiqvit.harness.identity.labels import variant
from aiqvit.harness.identity.spec import REFERENCE, Run
from aiqvit.harness.store.records import Record, changed_since
from aiqvit.io.names import file_name
from aiqvit.report import footer
from aiqvit.report.cells import Key
from aiqvit.report.footer import listed
from aiqvit.report.frame import recorded, tidy
from aiqvit.report.grid import Cell, Grid, Row, measured, ranked
from aiqvit.report.intervals import Intervals, note
from aiqvit.report.labels import changed
from aiqvit.report.marks import marks
from aiqvit.report.marks import notes as mark_notes
from aiqvit.report.metrics import units
from aiqvit.report.published import changes
from aiqvit.report.summary import NONE, UNDEFINED_NOTE, by_cell, summarise, text


def build(label: str, metrics: Sequence[str], preset: str, runs: Sequence[Run], records: Mapping[str, Record],
          grid: str = "", headlines: int = 1, typed: Collection[str] = (), intervals: Intervals | None = None) -> Grid:
    """A row for each method and bits; for each model a column for each of the first `headlines` metrics.

    `records` are by run id and hold every run of `runs`; `grid` is the name of the ablation that they make up, if any,
    and `typed` are the settings that were changed for all of it. The table's name says which settings differ.
    """
    records = {run.spec.id: {**records[run.spec.id], "label": run.label,
                             "stale": changed_since(records[run.spec.id], run.source)} for run in runs}
    found: dict[Key, list[Record]] = {}
    for run in {(run.spec.id, run.label): run for run in runs}.values():  # one that is typed twice is one run
        found.setdefault((run.spec.model, run.spec.method, run.label, run.spec.bits), []).append(records[run.spec.id])
    every = recorded(records.values(), metrics)
    summary = by_cell(summarise(tidy(found, metrics), intervals))
    shown, models, published = metrics[:headlines], _once(run.spec.model for run in runs), _published(runs, metrics[0])
    beside = [model for model in models if any(model == where[0] for where in published)]
    rows = []
    for method, name, bits in _once(where[1:] for where in found):
        own = [found.get((model, method, name, bits), []) for model in models]
        done = [record for group in own for record in group if record["status"] == "done"]
        cells = [_cell(summary, (model, method, name, bits), metric, every) for model in models for metric in shown]
        others = (Cell(published.get((model, name, bits), NONE)) for model in beside)
        rows.append(Row((bits, name + marks(done)), (*cells, Cell(_minutes(method, done)), *others), bits,
                        "" if method == REFERENCE else bits))
    columns = [*(f"{model} {metric}" for model in models for metric in shown), "Minutes",
               *(f"{model} published" for model in beside)]
    notes = _notes(runs, records)
    if any(cell.n < cell.done for cell in summary.values() if cell.metric in shown):
        notes.append(UNDEFINED_NOTE)
    if any(cell.n > 1 for cell in summary.values()) and not (intervals and intervals.shown):
        notes.append("±: standard deviation over n seeds")
    if beside:
        notes.append("published: change from full precision on all of the data set, and the paper that prints it")
    notes.append(note(intervals, ((cell.metric, cell.basis) for cell in summary.values() if cell.metric in shown)))
    limit = f"limit{runs[0].spec.limit}" if runs[0].spec.limit else ""
    file = file_name("-".join(filter(None, [label, preset, grid, changed(runs, typed if grid else None), limit])))
    return Grid(file, _caption(label, shown, preset, runs, records), ("W/A", "Method"), tuple((c,) for c in columns),
                ranked(rows, intervals), tuple(notes))


def _cell(summary: Mapping[tuple[str, ...], Any], where: Key, metric: str, metrics: Sequence[str]) -> Cell:
    """One number; that of the first metric has the line of the CSV, with all of them."""
    cell, line = summary.get((*where, metric)), {}
    if cell is not None and metric == metrics[0]:
        all_of = list(filter(None, (summary.get((*where, name)) for name in metrics)))
        line = {"bits": cell.bits, "method": cell.label, "model": cell.model, "runs": cell.done, "failed": cell.failed}
        for one in all_of:
            line |= {one.metric: one.value, f"{one.metric}_std": one.value_std, f"{one.metric}_drop": 0.0 - one.change}
        line |= {f"{one.metric}_{name}": getattr(one, name) for one in all_of for name in ("low", "high", "basis")}
        line |= {"minutes": cell.seconds / 60, "images": cell.images, "calibration_images": cell.calibration_images,
                 "run_ids": cell.ids, "marks": cell.marks}
    return measured(cell, text(cell, count="n={}", change=True), numbers=line)


def _published(runs: Sequence[Run], metric: str) -> dict[tuple[str, str, str], str]:
    """(model, label, bits) -> `-9.88 (AIQViT)`, all sources, those that print the same number together."""
    found = {}
    for run in runs:
        spec, sources = run.spec, {}
        for source, change in changes(spec.task, spec.model, spec.method, spec.bits, metric,
                                      variant(spec.settings, run.defaults)).items():
            sources.setdefault(f"{change:+.1f}", []).append(source)
        if sources and not run.reference:
            found[spec.model, run.label, spec.bits] = ", ".join(f"{c} ({'; '.join(s)})" for c, s in sources.items())
    return found


def _minutes(method: str, done: Sequence[Record]) -> str:
    seconds = [r["times"]["quantize"] for r in done]
    if not seconds or method == REFERENCE:
        return NONE
    return f"{mean(seconds) / 60:.1f}" if mean(seconds) >= 3 else "<0.1"


def _caption(label: str, shown: Sequence[str], preset: str, runs: Sequence[Run], records: Mapping[str, Record]) -> str:
    done = [(run, r) for run in runs if (r := records[run.spec.id])["status"] == "done"]
    quantized, limit = [run for run in runs if not run.reference], runs[0].spec.limit
    counts = listed(f"{r['metrics'].get('images', '?')} of {r['data'].get('val', '?')}" for _, r in done)
    samples = "held-out training samples" if "-train" in label else "validation images"
    facts = {
        "protocol": listed(getattr(run.method, "protocol", "unified") for run in quantized),
        "calibration images:": listed(f"{run.label} {r['calibration_images']}" for run, r in done if not run.reference),
        "seeds": listed(run.spec.seed for run in quantized),
        "weights": listed(f"{run.spec.model} {run.spec.weights[:6]}" for run in runs),
        "minutes": "to quantize one model (mean of the row)",
        "versions:": listed(f"{k} {v}" for _, r in done for k, v in r["manifest"].get("packages", {}).items())}
    return "; ".join([
        f"{label}, preset {preset}: {units(shown)}, in parentheses the change from full precision",
        *([f"LIMITED to {limit} images, not comparable with full runs"] if limit else []),
        f"{counts or 'no'} {samples}", *(f"{name} {fact}" for name, fact in facts.items() if fact)])


def _notes(runs: Sequence[Run], records: Mapping[str, Record]) -> list[str]:
    notes = [f"{run.method.title}: {run.method.note}" for run in runs if run.method.note]
    shown = ((run.method, getattr(run.method, "protocol", "unified")) for run in runs)
    notes += footer.fairness((method.title, method.fairness, protocol) for method, protocol in shown)
    found = list(records.values())
    for record in found:
        if skipped := record["data"].get("skipped"):
            why = f" ({record['data']['why']})" if record["data"].get("why") else ""
            notes.append(f"skipped {len(skipped)} broken image files: {', '.join(skipped[:5])}{why}")
    return _once([*notes, *footer.of_rewriting(r for r in found if r["status"] == "done"),
                  *footer.of_failures(found), *footer.of_data(found), *footer.of_inputs(found),
                  *mark_notes(found)])


def _once(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
