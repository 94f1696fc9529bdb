"""The AIQViT paper's Tables 1 to 6, from our records or as published: `python -m aiqvit.tables --table all`.

Exit codes: 0 written, 2 the input was wrong or there was nothing to show.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aiqvit.guard import Parser, guarded, path
from aiqvit.interfaces import UserError

INTERVALS = "show the 95 %% interval of each number, over samples and seeds"
FORMATS = ("tex", "md", "csv", "html")
NUMBERS = range(1, 7)
WHAT = """1 ImageNet, 2 COCO, 3 ModelNet40, 4 ShapeNetPart, 5 AIQViT's parts (bench --grid table5), 6 fixed against
searched rank (bench --grid table6). A table is written for every preset, protocol and limit in the records: they are
never mixed."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="aiqvit.tables", description="Write the AIQViT paper's Tables 1 to 6.", epilog=WHAT)
    add = p.add_argument
    add("results", nargs="*", type=path, default=["results"],
        help="results folders, or folders of them (default: %(default)s)")
    add("--table", default="all", help="comma list of 1 to 6, or all (default: %(default)s)")
    add("--source", default="ours", help="ours, paper, or both with their difference (default: %(default)s)")
    add("--intervals", action="store_true", help=INTERVALS)
    add("--format", default="tex,md,csv", help="comma list of tex, md, csv, html (default: %(default)s)")
    add("--out", type=path, default="results/tables", help="folder to write to (default: %(default)s)")
    return p


def run(args: argparse.Namespace) -> int:
    """Build, print and write the tables that the command line asks for."""
    from aiqvit.io.escape import line
    from aiqvit.io.files import write_text
    from aiqvit.report import latex, markup, paper
    from aiqvit.report.writers import write

    numbers = [int(n) for n in choices("table", args.table, [*map(str, NUMBERS)], "all")]
    formats = choices("format", args.format, FORMATS)
    source = choices("source", args.source, paper.SOURCES)[0]
    grids = list(map(paper.as_printed, numbers)) if source == "paper" else _measured(args, numbers, source == "both")
    out = Path(args.out)
    for table in grids:
        for kind in formats:
            write_text(out / f"{table.name}.{kind}", write(table, kind))
    if "tex" in formats:
        write_text(out / "tables.tex", latex.document([table.name for table in grids]))
    print("\n".join(map(markup.markdown, grids)), end="")
    look = "; pdflatex tables.tex there shows them" if "tex" in formats else ""
    print(line(f"wrote {len(grids)} tables to {out}{look}"), file=sys.stderr)
    return 0


def _measured(args: argparse.Namespace, numbers: Sequence[int], beside: bool) -> list:
    from aiqvit.catalogue import Registered
    from aiqvit.report import paper, records
    from aiqvit.report.layouts import layout
    from aiqvit.statistics import Statistics

    known, grids = Registered(), []
    found, methods = records.load(args.results, known), known.methods
    parts, statistics = records.parts(found), Statistics(found, args.intervals)
    for number in numbers:
        task = layout(number).task
        tasks = [task] if beside else [task, f"{task}-mini"]  # nothing is published on embedded data
        tables = [paper.ours(number, part, methods, beside, statistics) for part in parts if part.task in tasks]
        tables = [table for table in tables if any(n["source"] == "ours" for n in table.numbers)]
        if not tables:
            print(f"aiqvit: table {number}: no records of its runs on {task}", file=sys.stderr)
        grids += tables
    if not grids:
        hint = ("the paper has no numbers of embedded data: take --source ours" if beside and any(
            part.task.endswith("-mini") for part in parts) else "run aiqvit.bench first, or take --source paper")
        raise UserError(f"nothing to show: {hint}")
    return grids


def choices(option: str, text: str, allowed: Sequence[str], everything: str = "") -> list[str]:
    """Parts of a comma list, each once and one of `allowed`; `everything` means all. Raises `UserError` otherwise."""
    chosen = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if everything and chosen == [everything]:
        return list(allowed)
    wrong = [part for part in chosen if part not in allowed]
    if wrong or (option == "source" and len(chosen) > 1):
        raise UserError(f"--{option} {text}: expected {', '.join([*allowed, *filter(None, [everything])])}")
    return chosen


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(parser().parse_args(arguments)), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
