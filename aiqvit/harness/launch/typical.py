"""How long runs took elsewhere, for a machine that has no past runs yet: `typical.csv`, written from records.

    python -m aiqvit.harness.launch.typical RESULTS...

Seconds are medians, to quantize and to evaluate, of runs with their preset's own settings on the CPU, one thread each.
The file in this package is of a server's core with AVX-512 (docs/speed.md).
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from aiqvit.harness.store.records import Record, Store
from aiqvit.io.files import write_text

PATH = Path(__file__).with_name("typical.csv")
ALIKE = ("task", "model", "method", "preset")  # fields of the spec that are columns


def typical() -> list[Record]:
    """What the file says, each line as a past run."""
    with PATH.open(encoding="utf-8", newline="") as file:
        return [{"status": "done", "spec": {**{name: line[name] for name in ALIKE}, "device": "cpu"},
                 "times": {"quantize": float(line["quantize"]), "evaluate": float(line["evaluate"])}}
                for line in csv.DictReader(file)]


def medians(records: Iterable[Record]) -> list[str]:
    """The lines of the file that these records give."""
    found = defaultdict(list)
    for record in records:
        spec, times = record["spec"], record["times"]
        if record["status"] == "done" and (spec["device"], spec["threads"], spec["limit"]) == ("cpu", 1, None) and all(
                spec["settings"].get(key, value) == value for key, value in record.get("defaults", {}).items()):
            found[tuple(spec[name] for name in ALIKE)].append((times["quantize"], times["evaluate"]))
    return [",".join([*key, *(f"{median(seconds):.1f}" for seconds in zip(*times, strict=True))])
            for key, times in sorted(found.items())]


def main(folders: Sequence[str]) -> None:
    """Write the file from the records of these results folders."""
    records = [record for folder in folders for record in Store(folder).records()]
    write_text(PATH, "\n".join([",".join([*ALIKE, "quantize", "evaluate"]), *medians(records)]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
