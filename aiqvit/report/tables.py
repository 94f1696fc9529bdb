"""Records as a table: Markdown for people, CSV with every number for programs, LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from aiqvit.harness.identity.labels import variant
from aiqvit.harness.identity.spec import Run
from aiqvit.harness.store.records import Record, changed_since
from aiqvit.interfaces import UserError
from aiqvit.io import escape
from aiqvit.io.names import file_name
from aiqvit.report import footer, numbers
from aiqvit.report.changed import changed
from aiqvit.report.marks import marks
from aiqvit.report.marks import notes as mark_notes
from aiqvit.report.markup import pipe_table
from aiqvit.report.published import changes

FORMATS = ("md", "csv", "tex")


@dataclass(frozen=True)
class Table:
    """A table as text, and the numbers behind it."""

    name: str  # file name without suffix
    caption: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    numbers: list[dict[str, Any]]  # one row a cell


def build(label: str, metrics: Sequence[str], preset: str, runs: Sequence[Run], records: Mapping[str, Record],
          grid: str = "", headlines: int = 1, typed: Collection[str] = ()) -> Table:
    """A row for each method and bits; for each model a column for each of the first `headlines` metrics.

    `records` are by run id and hold every run of `runs`; `grid` is the name of the ablation that they make up, if any,
    and `typed` are the settings that were changed for all of it. The table's name says which settings differ.
    """
    shown = metrics[:headlines]
    records = {run.spec.id: {**records[run.spec.id], "stale": changed_since(records[run.spec.id], run.source)}
               for run in runs}
    models = list(dict.fromkeys(r.spec.model for r in runs))
    cells: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for run in {(run.spec.id, run.label): run for run in runs}.values():  # one that is typed twice is one run
        row = cells.setdefault((run.spec.bits, run.label), {})
        row.setdefault(run.spec.model, []).append(records[run.spec.id])
    rows, entries = [], []
    printed = _published(runs, metrics[0])
    beside = [m for m in models if any(model == m for model, _, _ in printed)]  # models with published numbers
    for (bits, method), row in cells.items():
        others = [printed.get((m, bits, method), "—") for m in beside]
        values = (_cell(row.get(m, []), metric) for m in models for metric in shown)
        mark = marks(r for group in row.values() for r in group)
        rows.append([bits, method + mark, *values, _minutes(bits, row), *others])
        entries += [_numbers(bits, method, m, row[m], metrics) for m in models if m in row]
    limit = runs[0].spec.limit
    differing = changed(runs, typed if grid else None)
    name = file_name("-".join(filter(None, [label, preset, grid, differing, f"limit{limit}" if limit else ""])))
    header = ["W/A", "Method", *(f"{m} {metric}" for m in models for metric in shown), "Minutes",
              *(f"{m} published" for m in beside)]
    used = [records[r.spec.id] for r in runs]
    notes = _notes(runs, records)
    if numbers.any_undefined(used, shown):
        notes.append(numbers.NOTE)
    if beside:
        notes.append("published: change from full precision on all of the data set, and the paper that prints it")
    return Table(name, _caption(label, " and ".join(shown), preset, runs, used), header, rows, notes, entries)


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


def _minutes(bits: str, row: Mapping[str, Sequence[Record]]) -> str:
    seconds = [r["times"]["quantize"] for group in row.values() for r in group if r["status"] == "done"]
    if not seconds or bits == "32/32":
        return "—"
    return f"{mean(seconds) / 60:.1f}" if mean(seconds) >= 3 else "<0.1"


def _cell(records: Sequence[Record], metric: str) -> str:
    """`71.23 (-1.10)`, over seeds `71.23 ± 0.20 (n=3, -1.10)`, or what went wrong."""
    done = [r for r in records if r["status"] == "done"]
    if not done:
        return "failed" if records else "—"
    values = numbers.values(done, metric)
    if not values:
        return numbers.UNDEFINED
    drop = _drop(done, metric)
    change = ""
    if drop is not None and done[0]["spec"]["bits"] != "32/32":
        change = f"{round(-drop, 2) + 0.0:+.2f}"  # never -0.00
    if len(values) > 1:
        inside = ", ".join(filter(None, [f"n={len(values)}", change]))
        return f"{mean(values):.2f} ± {numbers.spread(values):.2f} ({inside})"
    return f"{values[0]:.2f}" + (f" ({change})" if change else "")


def _drop(done: Sequence[Record], metric: str) -> float | None:
    changes = numbers.changes(done, metric)
    return -mean(changes) if changes else None


def _numbers(bits: str, method: str, model: str, records: Sequence[Record], metrics: Sequence[str]) -> dict[str, Any]:
    done = [r for r in records if r["status"] == "done"]
    row: dict[str, Any] = {"bits": bits, "method": method, "model": model, "runs": len(done)}
    row["failed"] = len(records) - len(done)
    for metric in metrics:
        values = numbers.values(done, metric)
        row[metric] = mean(values) if values else None
        row[f"{metric}_std"] = numbers.spread(values)
        row[f"{metric}_drop"] = _drop(done, metric)
    row["minutes"] = mean(r["times"]["quantize"] for r in done) / 60 if done else None
    row["images"] = done[0]["metrics"].get("images") if done else None
    row["calibration_images"] = records[0]["calibration_images"]
    row["run_ids"] = " ".join(r["id"] for r in records)
    row["marks"] = marks(records)
    return row


def _caption(label: str, metric: str, preset: str, runs: Sequence[Run], records: Sequence[Record]) -> str:
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
        f"{label}, preset {preset}: {metric} in percent, in parentheses the change from full precision",
        f"LIMITED to {runs[0].spec.limit} images, not comparable with full runs" if runs[0].spec.limit else "",
        f"{counts or 'no'} validation images",
        f"protocol {protocols}" if protocols else "",
        f"calibration images: {calibration}" if calibration else "",
        f"seeds {seeds}" if seeds else "",
        f"weights {weights}",
        "minutes to quantize one model (mean of the row)",
        f"versions: {versions}" if versions else "",
    ]
    return "; ".join(filter(None, parts)) + "."


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


def render(table: Table, kind: str) -> str:
    """The table as text of one of `FORMATS`. Raises `UserError` for another, or LaTeX without pandas."""
    if kind not in FORMATS:
        raise UserError(f"format {kind!r}: expected one of {', '.join(FORMATS)}")
    return {"md": markdown, "csv": comma_separated, "tex": latex}[kind](table)


def markdown(table: Table) -> str:
    """Columns padded, so that it reads well unrendered too; the caption first and the notes last."""
    notes = ["", *(f"- {escape.markdown(note)}" for note in table.notes)] if table.notes else []
    rows = [list(map(escape.markdown, row)) for row in (table.header, *table.rows)]
    return "\n".join([escape.markdown(table.caption), "", pipe_table(rows, 2), *notes]) + "\n"


def comma_separated(table: Table) -> str:
    """One line a cell of the table, every metric with its spread, unrounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (table.numbers[0], *(entry.values() for entry in table.numbers)):
        writer.writerow(map(escape.csv_cell, row))
    return text.getvalue()


def latex(table: Table) -> str:
    """A booktabs table that compiles as it is. Raises `UserError` without pandas and jinja2."""
    try:
        import jinja2  # noqa: F401  (Styler needs it)
        import pandas as pd
    except ImportError as error:
        raise UserError(f"LaTeX tables need {error.name}: pip install 'aiqvit[report]'") from error
    header, *rows = (list(map(escape.latex, row)) for row in (table.header, *table.rows))
    frame = pd.DataFrame(rows, columns=header)
    notes = "".join(f"\n% {escape.latex(note)}" for note in table.notes)
    text = frame.style.hide(axis="index").to_latex(
        hrules=True,
        column_format="ll" + "r" * (len(table.header) - 2),
        caption=" ".join(map(escape.latex, [table.caption, *table.notes])),
        label=f"tab:{file_name(table.name)}",
        position_float="centering",
    )
    return f"% needs \\usepackage{{booktabs}}{notes}\n{text}"
