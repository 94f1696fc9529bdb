"""What runs cost: minutes, where they went by unit, and memory, from the records of runs."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from statistics import mean, median

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.harness.store.records import Record
from aiqvit.report.cells import cells
from aiqvit.report.footer import listed
from aiqvit.report.grid import Cell, Grid, Row
from aiqvit.report.panels import width
from aiqvit.report.records import Comparable
from aiqvit.report.summary import NONE

STUB = ("Model", "W/A", "Method")
MLP = "mlp:"  # begins the name of a feed-forward network in the log (`aiqvit.recon.mlp`)
COLUMNS = {"Minutes": "{:.2f}", "MLPs": "{:.2f}", "Units": "{:.2f}", "Rest": "{:.2f}", "A unit (s)": "{:.1f}",
           "Longest (s)": "{:.1f}", "Longest unit": "{}", "A unit (MiB)": "{:.0f}", "Peak MiB": "{:.0f}",
           "Before (MiB)": "{:.0f}"}
NOTE = ("minutes to quantize: MLPs reconstructed, units trained (with the search of their ranges where the log counts "
        "it), and the rest, which is ranges and the way of the images through the model; a unit is the median of "
        "its seconds and of the process's peak memory meanwhile; peak memory is that of the process in all of the run: "
        "some it had before, of earlier runs in the same process. Times compare only within one machine and load")


def grid(part: Comparable) -> Grid:
    """A row for each model, bits and method that ended well; means over seeds."""
    rows = [Row((model, bits, runs[0]["label"]), _entries((model, bits, runs[0]["label"]), runs),
                group=f"{model} {bits}")
            for (model, method, _, bits), found in cells(part.records).items()
            if method != REFERENCE and (runs := [r for r in found if r["status"] == "done"])]
    rows.sort(key=lambda row: (row.heads[0], width(row.heads[1])))
    threads = {record["spec"].get("threads") for record in part.records}
    return Grid(f"costs-{part.name}", f"Cost, {part.title}", STUB,
                tuple((head,) for head in COLUMNS), tuple(rows), (NOTE, f"threads a run: {listed(sorted(threads))}"))


def costs(record: Record) -> dict[str, float | str]:
    """Of one run, by the names of `COLUMNS`; NaN where the log does not say."""
    timed = {str(e["unit"]): e["seconds"] for e in record["log"]
             if "unit" in e and isinstance(e.get("seconds"), int | float)}
    units = {name: seconds for name, seconds in timed.items() if not name.startswith(MLP)}
    total = record["times"].get("quantize", nan)
    longest = max(units, key=lambda name: units[name], default="")
    peaks = [e["peak_mib"] for e in record["log"] if isinstance(e.get("peak_mib"), int | float)]
    peak = record.get("peak_mib") or {}
    return {"Minutes": total / 60, "MLPs": sum(timed.values()) / 60 - sum(units.values()) / 60 or nan,
            "Units": sum(units.values()) / 60 or nan, "Rest": (total - sum(timed.values())) / 60 if timed else nan,
            "A unit (s)": median(units.values()) if units else nan, "Longest (s)": units.get(longest, nan),
            "Longest unit": longest, "A unit (MiB)": median(peaks) if peaks else nan,
            "Peak MiB": peak.get("gpu", peak.get("rss", nan)), "Before (MiB)": peak.get("rss_before", 0) or nan}


def _entries(heads: Sequence[str], runs: Sequence[Record]) -> tuple[Cell, ...]:
    """The cells of a row; the first has the line of the CSV."""
    each = list(map(costs, runs))
    found = {name: _mean([one[name] for one in each]) for name in COLUMNS}
    texts = [COLUMNS[name].format(value) if value else NONE for name, value in found.items()]
    line = {**dict(zip(STUB, heads, strict=True)), **found}
    return tuple(Cell(text, numbers={} if i else line) for i, text in enumerate(texts))


def _mean(values: Sequence[float | str]) -> float | str:
    """Of numbers, empty where none is known; of texts the first."""
    known = [value for value in values if isinstance(value, int | float) and not isnan(value)]
    return mean(known) if known else next((value for value in values if isinstance(value, str)), "")
