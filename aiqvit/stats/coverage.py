"""How often intervals hold the truth, on synthetic runs whose truth is known: `python -m aiqvit.stats.coverage`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aiqvit.bounds import Count
from aiqvit.guard import Parser, guarded, number
from aiqvit.stats.intervals import Interval, of_difference, of_metric
from aiqvit.stats.resamples import resamples
from aiqvit.stats.synthetic import Regime, simulated

PAIRS = 2000
CHUNK = 50  # pairs at once

REGIMES = (
    Regime("1 seed"),
    Regime("1 seed, 200 samples", 200),
    Regime("1 seed, 97 % right", theta=(2.2, 2.15)),
    Regime("1 seed, 97 % right, 200 samples", 200, theta=(2.2, 2.15)),
    Regime("1 seed, nearly alike", theta=(1.0, 0.995), apart=0.05),
    Regime("1 seed, nearly alike, 200 samples", 200, theta=(1.0, 0.995), apart=0.05),
    Regime("3 seeds without effect", seeds=(3, 3)),
    Regime("3 seeds, small effect", seeds=(3, 3), effect=0.03),
    Regime("3 seeds, large effect", seeds=(3, 3), effect=0.15),
    Regime("3 seeds, small effect, 200 samples", 200, (3, 3), 0.03),
    Regime("5 seeds, small effect", seeds=(5, 5), effect=0.03),
    Regime("3 other seeds, small effect", seeds=(3, 3), effect=0.03, shared=False),
    Regime("3 other seeds, large effect", seeds=(3, 3), effect=0.15, shared=False),
    Regime("3 and 5 seeds, small effect", seeds=(3, 5), effect=0.03, shared=False),
    Regime("3 seeds and 1, small effect", seeds=(3, 1), effect=0.03, shared=False),
    Regime("2 seeds, small effect", seeds=(2, 2), effect=0.03),
    Regime("2 other seeds, small effect", seeds=(2, 2), effect=0.03, shared=False),
    Regime("mean over classes, 1 seed", metric="class mean"),
    Regime("mean over classes, 3 seeds, small effect", seeds=(3, 3), effect=0.03, metric="class mean"),
    Regime("continuous, 1 seed", metric="continuous"),
    Regime("continuous, 1 seed, 200 samples", 200, metric="continuous"),
    Regime("continuous, 3 seeds, small effect", seeds=(3, 3), effect=0.03, metric="continuous"),
    Regime("sums, 1 seed, other samples", sums="other"),
    Regime("sums, 1 seed, same samples", sums="same"),
    Regime("sums, 3 seeds, same samples", seeds=(3, 3), effect=0.03, sums="same"),
)


@dataclass(frozen=True)
class Coverage:
    """Shares of pairs whose interval holds the truth, and the mean width in percentage points."""

    difference: float
    metric: float
    width: float
    basis: str


def coverage(regime: Regime, pairs: int = PAIRS, draws: int = 500, seed: int = 1) -> Coverage:
    """Simulate a regime."""
    generator, counts = np.random.default_rng(seed), resamples(regime.samples, draws).astype(np.float32)  # (B, N)
    held, found = [], []
    for start in range(0, pairs, CHUNK):
        for cells, truth in simulated(regime, min(CHUNK, pairs - start), counts, generator):
            interval, own = of_difference(*cells), of_metric(cells[0])
            held.append((_holds(interval, truth[0] - truth[1]), _holds(own, truth[0])))
            found.append(interval)
    difference, metric = np.mean(held, 0)
    return Coverage(float(difference), float(metric), float(np.mean([i.high - i.low for i in found])), found[0].basis)


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of `docs/statistics.md`."""
    p = Parser(prog="aiqvit.stats.coverage", description="Simulate how often 95 % intervals hold the truth.")
    p.add_argument("--pairs", type=number(Count), default=PAIRS, help="pairs a regime (default: %(default)s)")

    def run(args: argparse.Namespace) -> int:
        print("| runs | interval covers | of a difference | of a cell | width |\n|---|---|---:|---:|---:|")
        for regime in REGIMES:
            c = coverage(regime, args.pairs)
            print(f"| {regime.name} | {c.basis} | {100 * c.difference:.1f} | {100 * c.metric:.1f} | {c.width:.2f} |",
                  flush=True)
        return 0

    arguments = sys.argv[1:] if argv is None else list(argv)
    return guarded(lambda: run(p.parse_args(arguments)), arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
