"""One self-contained HTML page of results folders: sortable tables, figures, scheme cards, manifests."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record, plain
from aiqvit.interfaces import UserError
from aiqvit.io.escape import terminal
from aiqvit.report import footer, marks, numbers, plots, units
from aiqvit.report.cells import Key, cells, unequal
from aiqvit.report.panels import pyplot, rendered, width
from aiqvit.report.records import Comparable
from aiqvit.report.style import headline

CAPTIONS = {
    "bits": "Metric against bit width", "minutes": "Metric against the time that quantization took",
    "intervals": "Intervals of the dynamic focusing quantizer by layer", "blocks": "Reconstruction loss by unit",
    "calibration": "Metric against the number of calibration samples"}

MOST = 100_000  # characters of a record that are shown
CARD = ("role", "kind", "quantizer", "bits", "granularity", "note", "sites")
SHOWN = ("spec", "defaults", "coverage", "metrics", "fp32", "calibration_images", "times", "peak_mib", "data",
         "manifest")  # what of a record stands under its run


def render(title: str, parts: Sequence[Comparable], notes: Mapping[str, tuple[str, str]]) -> str:
    """The page, everything in it escaped; `notes` maps methods to (title, note). Raises `UserError` without jinja2."""
    try:
        import jinja2
        pyplot()
    except ImportError as error:
        raise UserError(f"the HTML report needs {error.name}: pip install 'aiqvit[report]'") from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     finalize=lambda value: terminal(value) if isinstance(value, str) else value)
    template = environment.from_string((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
    runs = {record["id"]: record for part in parts for record in part.records}
    return template.render(title=title, total=len(runs), failed=sum(r["status"] == "failed" for r in runs.values()),
                           sections=[_section(part, notes) for part in parts])


def _section(part: Comparable, notes: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    found = cells(part.records)
    metrics = list(dict.fromkeys(m for r in part.records for m in r["metrics"] if m not in ("images", "skipped")))
    first = headline(metrics)[0]
    header = ["Model", "W/A", "Method", *(f"{m} (%)" for m in metrics), f"{first} change (points)", "Minutes",
              "Peak MiB", "Seeds", "Samples"]
    rows = [_row(found[key], metrics, first) for key in sorted(found, key=_order)]
    done = [r for runs in found.values() for r in runs if r["status"] == "done"]
    methods = dict.fromkeys(r["spec"]["method"] for r in done)
    remarks = [": ".join(notes[method]) for method in methods if notes.get(method, ("", ""))[1]]
    remarks += [*marks.notes(done), *footer.conditions(part, done), *footer.scheme_differences(done)]
    remarks += [numbers.NOTE] if numbers.any_undefined(done, metrics) else []
    remarks += [*footer.of_data(done), *footer.of_inputs(done), *unequal(found)]
    remarks.append(f"versions: {footer.versions(done)}")
    return {
        "name": part.title,
        "warnings": footer.warnings(part),
        "header": header, "rows": rows, "notes": remarks, "cards": _cards(done), "runs": list(map(_run, part.records)),
        "figures": [{"caption": CAPTIONS[name], "data": _svg(figure)}
                    for name, figure in plots.drawn(part, list(plots.FIGURES))],
    }


def _order(key: Key) -> tuple:
    """By model, full precision first, then bits from low to high; methods as they were run."""
    model, _, _, bits = key
    return model, bits != "32/32", width(bits)


def _row(runs: Sequence[Record], metrics: Sequence[str], first: str) -> list[dict[str, Any]]:
    done = [r for r in runs if r["status"] == "done"]
    spec = runs[0]["spec"]
    changes = numbers.changes(done, first) if spec["method"] != REFERENCE else []
    minutes = [r["times"]["quantize"] / 60 for r in done if spec["method"] != REFERENCE]
    peaks = [r["peak_mib"].get("gpu", r["peak_mib"].get("rss", 0)) for r in done if r.get("peak_mib")]
    texts = [spec["model"], spec["bits"], runs[0]["label"] + marks.marks(done)]
    found = [(numbers.values(done, m), numbers.UNDEFINED if any(m in r["metrics"] for r in done) else "—")
             for m in metrics]
    return [*({"text": text, "value": text} for text in texts),
            *(_cell(values, "{:.2f}", "failed" if not done else empty) for values, empty in found),
            _cell(changes, "{:+.2f}"), _cell(minutes, "{:.2f}"), _cell(peaks, "{:.0f}"),
            _cell([len(runs)], "{:d}"), _cell(numbers.values(done, "images")[:1], "{:.0f}")]


def _cell(values: Sequence[float], form: str, empty: str = "—") -> dict[str, Any]:
    if not values:
        return {"text": empty, "value": ""}
    middle = values[0] if len(values) == 1 else mean(values)
    around = f" ± {numbers.spread(values):.2f}" if len(values) > 1 else ""
    return {"text": form.format(middle) + around, "value": middle}


def _cards(done: Sequence[Record]) -> list[dict[str, Any]]:
    """One scheme card a method and bit width."""
    cards = {f"{r['label']} {r['spec']['bits']}": r["scheme"] for r in done if r["scheme"]}
    return [{"title": title, "header": CARD, "rows": [[row.get(name, "") for name in CARD] for row in rows]}
            for title, rows in sorted(cards.items())]


def _run(record: Record) -> dict[str, Any]:
    shown = {key: record[key] for key in SHOWN if key in record}
    return {"id": record["id"], "error": record.get("error"), "log": units.grid(record),
            "text": json.dumps(plain(shown), indent=1, ensure_ascii=False)[:MOST]}


def _svg(figure: Any) -> str:
    """The figure as base64 of an SVG, the same for the same numbers."""
    return base64.b64encode(rendered(figure, "svg")).decode()
