"""Figures from records, as PDF and PNG: `python -m aiqvit.figures --out DIR RESULTS...`.

Exit codes: 0 written, 2 the input was wrong or there was nothing to draw.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aiqvit.bounds import BitWidth, Whole
from aiqvit.guard import Parser, guarded, number, path
from aiqvit.interfaces import UserError
from aiqvit.io.escape import line
from aiqvit.io.names import file_name
from aiqvit.tables import choices

RECORDED = ("bits", "minutes", "intervals", "calibration", "blocks")
NAMES = (*RECORDED, "softmax")
WHAT = """bits: metric against bit width; minutes: metric against time; intervals: DFQ's learned intervals by layer,
Figure 4a (bench --grid figure4a); calibration: metric against calibration samples, Figure 4b (bench --grid figure4b);
blocks: reconstruction loss by unit; softmax: post-Softmax values and each quantizer's levels, Figure 3, which runs a
model."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="aiqvit.figures", description="Draw records.", epilog=WHAT)
    add = p.add_argument
    add("results", nargs="*", type=path, default=["results"],
        help="results folders, or folders of them (default: %(default)s)")
    add("--figure", default="all", help=f"comma list of {', '.join(NAMES)}, or all (default: %(default)s)")
    add("--format", default="pdf,png", help="comma list of pdf, png, svg (default: %(default)s)")
    add("--out", type=path, default="results/figures", help="folder to write to (default: %(default)s)")
    add("--task", default="imagenet", help="of figure softmax (default: %(default)s)")
    add("--data", type=path, default="mini",
        help="of figure softmax: data folder, or mini (default: %(default)s)")
    add("--model", default="mini_vit", help="of figure softmax (default: %(default)s)")
    add("--weights", type=path, help="of figure softmax: weights file of the model")
    add("--layer", type=number(Whole), default=0,
        help="of figure softmax: attention layer from 0 (default: %(default)s)")
    add("--bits", type=number(BitWidth), default=3, help="of figure softmax (default: %(default)s)")
    return p


def run(args: argparse.Namespace) -> int:
    """Draw and write what the command line asks for."""
    names = choices("figure", args.figure, NAMES, "all")
    formats = choices("format", args.format, ("pdf", "png", "svg"))
    from aiqvit.io.files import write_bytes
    from aiqvit.report.panels import pyplot, rendered

    pyplot()
    out, count = Path(args.out), 0
    for name, figure in _drawn(args, names):
        for kind in formats:
            write_bytes(out / f"{name}.{kind}", rendered(figure, kind))
        print(line(str(out / name)))
        count += 1
    if not count:
        raise UserError("nothing to draw: the records hold none of the data that these figures show")
    return 0


def _drawn(args: argparse.Namespace, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    from aiqvit.catalogue import Registered
    from aiqvit.report import plots, records

    recorded = [name for name in names if name in RECORDED]
    for part in records.parts(records.load(args.results, Registered())) if recorded else ():
        for name, figure in plots.drawn(part, recorded):
            yield file_name(f"{name}-{part.name}"), figure
    if "softmax" in names:
        yield file_name(f"softmax-{args.model}-{args.bits}bit"), _softmax(args)


def _softmax(args: argparse.Namespace) -> Any:
    from aiqvit import attention
    from aiqvit.registry import TASKS
    from aiqvit.report import panels

    task = TASKS.get(args.task)(args.data)
    subject = task.load(task.resolve(args.model)[0], args.weights)
    taps = attention.post_softmax(task, subject)
    if args.layer >= len(taps):
        raise UserError(f"--layer {args.layer}: {subject.name} has attention layers 0 to {len(taps) - 1}")
    rows = [(row.method, f"{row.label}\nsquared error of AV {100 * row.error:.2g} %", row.values)
            for row in attention.levels(taps[args.layer], args.bits)]
    title = f"{subject.name} on {task.label}, attention layer {args.layer}, {args.bits} bit"
    return panels.softmax_levels(taps[args.layer].seen.flatten().numpy(), rows, title)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(parser().parse_args(arguments)), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
