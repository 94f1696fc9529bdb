"""McNemar's test of two runs: right or wrong on the same samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class McNemar:
    """Samples that only one of two runs has right, and the two-sided p-value of the exact test."""

    ours: int  # only the first run is right
    theirs: int  # only the second is
    p: float  # that the two are equally often right; 1 where no sample tells them apart


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> McNemar:
    """The exact test (McNemar 1947) on whether each sample is right, two boolean arrays (N,)."""
    first, second = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
    return McNemar(first, second, float(binomtest(first, first + second).pvalue) if first + second else 1.0)
