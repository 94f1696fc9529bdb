"""One self-contained HTML page of results folders: `python -m aiqvit.report RESULTS... --out report.html`.

Exit codes: 0 written, 2 the input was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aiqvit.guard import Parser, guarded, path
from aiqvit.tables import INTERVALS


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="aiqvit.report", description="Write one HTML page that shows everything in results folders.")
    p.add_argument("results", nargs="*", type=path, default=["results"],
                   help="results folders, or folders of them (default: %(default)s)")
    p.add_argument("--out", type=path, default="results/report.html", help="file to write (default: %(default)s)")
    p.add_argument("--intervals", action="store_true", help=INTERVALS)
    p.add_argument("--title", default="Results", help="heading of the page (default: %(default)s)")
    return p


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    from aiqvit.catalogue import Registered
    from aiqvit.io.escape import line
    from aiqvit.io.files import write_text
    from aiqvit.report import page, records
    from aiqvit.statistics import Statistics

    known = Registered()
    found = records.load(args.results, known)
    text = page.render(args.title, records.parts(found), known.methods, Statistics(found, args.intervals))
    write_text(Path(args.out), text)
    print(line(args.out))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(parser().parse_args(arguments)), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
