"""Two methods on the same samples: `aiqvit compare RUN RUN`. See `docs/statistics.md`.

Exit codes: 0 compared, 1 something failed, 2 the input was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from aiqvit.bounds import Seed, Whole
from aiqvit.guard import Parser, guarded, number, path
from aiqvit.interfaces import UserError

PICTURES = 10
Level = Annotated[float, Interval(ge=0.5, le=0.9999)]
Draws = Annotated[int, Interval(ge=100, le=100_000)]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="aiqvit compare", description="Compare two methods on the same samples. RUN is a record's file, a "
               "run id, the start or the end of one, or a glob that matches several seeds of one method.")
    add = p.add_argument
    add("ours", type=path, metavar="RUN", help="the first, from which the other is subtracted")
    add("theirs", type=path, metavar="RUN", help="the second")
    add("results", nargs="*", type=path, default=["results"], metavar="RESULTS",
        help="results folders, or folders of them (default: results)")
    add("--seeds", action="store_true", help="take all seeds of each RUN, those that differ from it in nothing else")
    add("--level", type=number(Level), default=0.95, help="of the intervals (default: %(default)s)")
    add("--draws", type=number(Draws), help="of the bootstrap (default: 2000, of detectors 100)")
    add("--seed", type=number(Seed), default=0, help="of the bootstrap (default: %(default)s)")
    add("--limit", type=number(Whole), default=10,
        help="changed samples that are listed, evenly spaced among all (default: %(default)s)")
    add("--save-images", type=path, metavar="DIR", help=f"write pictures of {PICTURES} changed samples there")
    add("--data", type=path, help="where their data is, or mini (default: as in aiqvit bench)")
    return p


def run(argv: Sequence[str]) -> int:
    """Compare, print; returns the exit code."""
    args = parser().parse_args(argv)
    from aiqvit.cli import comparing, sampled
    from aiqvit.cli.finding import find
    from aiqvit.io.escape import terminal
    from aiqvit.io.files import check_place

    if args.save_images is not None:
        check_place(Path(args.save_images) / "picture.png")
    ours, theirs = (sampled.Cell(find(text, args.results, args.seeds)) for text in (args.ours, args.theirs))
    sampled.check(ours, theirs)
    for text in (*comparing.heading(ours, theirs), *comparing.table(ours, theirs, args)):
        print(terminal(text))
    both = comparing.changed(ours, theirs)
    for text in comparing.listed(both, len(ours.runs) == len(theirs.runs) == 1, args.limit) if both else ():
        print(terminal(text))
    if args.save_images is not None:
        from aiqvit.cli.showing import save

        if not both:
            raise UserError("--save-images: without outcomes nobody knows which samples changed; run them again")
        print(save(ours.runs[0].record, both.said, comparing.some(both.found, PICTURES), args.save_images, args.data))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(arguments), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
