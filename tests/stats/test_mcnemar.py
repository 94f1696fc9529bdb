"""The exact test, against all ways that the samples which tell two runs apart may fall."""

from itertools import product

import numpy as np
import pytest

from aiqvit.stats.mcnemar import McNemar, mcnemar


def enumerated(first, second):
    """Two-sided p-value: the share of all equally likely splits that are as unequal, or more."""
    splits = [abs(2 * sum(which) - first - second) for which in product((0, 1), repeat=first + second)]
    return sum(split >= abs(first - second) for split in splits) / len(splits)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (5, 0), (1, 6), (4, 4), (9, 3)])
def test_it_is_the_enumeration(first, second):
    ours = np.array([1] * first + [0] * second + [1, 1, 0], bool)
    theirs = np.array([0] * first + [1] * second + [1, 1, 0], bool)
    found = mcnemar(ours, theirs)
    assert (found.ours, found.theirs) == (first, second)
    assert found.p == pytest.approx(enumerated(first, second))


def test_runs_that_no_sample_tells_apart():
    right = np.array([True, False, True])
    assert mcnemar(right, right) == McNemar(0, 0, 1.0)
