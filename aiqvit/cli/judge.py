"""The judge for tuning: `aiqvit judge` runs settings on training samples, so that no result chooses them.

It is `aiqvit bench` with `--held-out 256 --intervals --out results/tuning`: its table has the KL divergence to full
precision, the agreement with it and the accuracy, each with its 95 % interval, on training samples that no method
calibrates on; every line is a record. All flags of bench can be given, these three too:

    aiqvit judge --data DIR --model deit_tiny --weights FILE --bits 4/4 --method 'aiqvit[steps=80],aiqvit[steps=160]'
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from aiqvit import bench

WHAT = """Compare settings on training samples that no method calibrates on, so that no result chooses them: aiqvit
bench with --held-out 256 --intervals --out results/tuning."""


def parser() -> argparse.ArgumentParser:
    """The command line of bench, with defaults of its own."""
    p = bench.parser()
    p.prog, p.description = "aiqvit judge", WHAT
    p.set_defaults(held_out=256, intervals=True, out="results/tuning")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return bench.main(argv, parser)
