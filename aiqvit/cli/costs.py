"""What runs cost: `aiqvit costs RESULTS...` prints minutes, seconds a unit and memory of every method.

Exit codes: 0 printed, 2 the input was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from aiqvit.guard import Parser, guarded, path
from aiqvit.tables import FORMATS, choices


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="aiqvit costs", description="Print minutes, seconds a unit and memory of runs.")
    p.add_argument("results", nargs="*", type=path, default=["results"],
                   help="results folders, or folders of them (default: %(default)s)")
    p.add_argument("--format", default="md", help="one of tex, md, csv, html (default: %(default)s)")
    return p


def run(args: argparse.Namespace) -> int:
    """Print a table for each set of comparable runs."""
    from aiqvit.catalogue import Registered
    from aiqvit.report import costs, records
    from aiqvit.report.writers import write

    kinds = choices("format", args.format, FORMATS)
    grids = [costs.grid(part) for part in records.parts(records.load(args.results, Registered()))]
    print("\n".join(write(table, kind) for kind in kinds for table in grids if table.rows), end="")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(parser().parse_args(arguments)), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
