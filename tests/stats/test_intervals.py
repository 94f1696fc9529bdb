"""Intervals of cells and differences: what they cover, and the edges."""

import math

import numpy as np
import pytest
from scipy.stats import t

from aiqvit.stats.intervals import Interval, distinguishable, of_difference, of_metric
from aiqvit.stats.measured import Measured, measured
from aiqvit.stats.resamples import resamples

N = 400
COUNTS = resamples(N, 4000)


def run(right, seed=0, counted=True):
    """A run that has these samples (N,) right, or whose metric is the mean of these values."""
    values = 100.0 * np.asarray(right) if counted else np.asarray(right, float)
    return Measured(seed, float(values.mean()), COUNTS @ values / N, True, N, counted)


def sums(value, seed=0, samples=N):
    return measured(seed, {"top1": value}, ("top1",), samples)["top1"]


@pytest.fixture
def right():
    return np.random.default_rng(0).random((6, N)) < 0.8  # (runs, N)


def test_one_seed_is_the_wilson_interval(right):
    found, share = of_metric([run(right[0])]), right[0].mean()
    q = 1.966**2 / N  # Student's t of 399 degrees of freedom
    half = math.sqrt(q * (share * (1 - share) + q / 4)) / (1 + q)
    middle = (share + q / 2) / (1 + q)
    assert (found.low, found.high) == pytest.approx((100 * (middle - half), 100 * (middle + half)), abs=0.2)
    assert found.basis == "samples" and found.value == pytest.approx(100 * share)


def test_a_difference_is_the_paired_formula(right):
    found = of_difference([run(right[0])], [run(right[1])])
    apart = 100.0 * right[0] - 100.0 * right[1]
    half = 1.966 * math.sqrt(apart.var() / N + (100 / (N + 2)) ** 2)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.04)
    assert found.value == pytest.approx(apart.mean())


def test_pairing_over_samples_takes_their_difficulty_out(right):
    better = right[0] | (np.arange(N) % 12 == 0)  # what the first has, and a few more
    found = of_difference([run(better)], [run(right[0])])
    assert distinguishable(found)
    assert not distinguishable(of_difference([sums(run(better).value)], [sums(run(right[0]).value)]))


def test_runs_that_agree_on_every_sample_have_no_difference(right):
    values = np.random.default_rng(1).random(N)
    assert of_difference([run(values, 0, False)], [run(values, 3, False)]) == Interval(0.0, 0.0, 0.0, "samples")
    counted = of_difference([run(right[0])], [run(right[0])])
    assert counted.value == 0 and -counted.low == pytest.approx(counted.high)
    assert counted.high == pytest.approx(100 * 1.966 / (N + 2), rel=0.01)  # as many samples more could tell them apart


def test_seeds_enter_by_students_t():
    apart = [Measured(s, v, None) for s, v in enumerate((70.0, 74.0, 72.0))]
    found = of_metric(apart)
    half = t.ppf(0.975, 2) * 2 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((72 - half, 72 + half))
    assert found.basis == "seeds"


def test_the_same_seeds_are_paired():
    shift = (0.0, 9.0, -5.0)  # what a seed does to both methods alike
    ours = [Measured(s, 70 + shift[s] + 0.1 * s, None) for s in range(3)]
    theirs = [Measured(s, 60 + shift[s], None) for s in range(3)]
    assert distinguishable(of_difference(ours, theirs[::-1]))
    others = [Measured(s + 10, r.value, None) for s, r in enumerate(theirs)]
    assert not distinguishable(of_difference(ours, others))


def test_seeds_and_samples_add(right):
    three = [run(right[i] | (np.arange(N) < 40 * i), i) for i in range(3)]
    found = of_metric(three)
    assert found.basis == "samples and seeds"
    assert found.high - found.low > 2 * (of_metric(three[:1]).high - of_metric(three[:1]).low)


def test_what_seeds_do_to_single_samples_counts_once(right):
    """Runs that have nothing in common are as good as one run on three times the samples."""
    wide = [of_metric([run(row, s) for s, row in enumerate(np.random.default_rng(i).random((3, N)) < 0.8)])
            for i in range(60)]
    variance = np.mean([((i.high - i.low) / 2 / t.ppf(0.975, 2)) ** 2 for i in wide])
    assert variance == pytest.approx(100**2 * 0.16 / N / 3, rel=0.35)


@pytest.mark.parametrize(("ours", "theirs", "basis"), [
    ((0, 1, 2), (5,), "samples and seeds of the first"),
    ((0,), (1, 2, 3), "samples and seeds of the second"),
    ((0, 1, 2), (3, 4, 5), "samples and seeds"),
    ((0, 1, 2), (0, 1, 2), "samples and seeds"),
    ((0, 1), (0, 1), "samples"),  # two seeds say too little of others
    ((0, 1), (2, 3), "samples"),
    ((0, 1), (2, 3, 4), "samples and seeds of the second"),
    ((0,), (1,), "samples"),
])
def test_the_basis_says_whose_seeds_it_covers(right, ours, theirs, basis):
    cells = [[run(right[3 * which + i], s) for i, s in enumerate(seeds)] for which, seeds in enumerate((ours, theirs))]
    assert of_difference(*cells).basis == basis


@pytest.mark.parametrize("value", [0.0, 100.0])
@pytest.mark.parametrize("make", [lambda v: run(np.full(N, v > 0)), sums], ids=["outcomes", "sums"])
def test_none_and_all_have_a_width(value, make):
    found = of_metric([make(value)])
    assert 0 <= found.low < found.high <= 100
    assert found.high - found.low == pytest.approx(100 * 3.86 / (N + 3.86), rel=0.01)  # Wilson's
    apart = of_difference([make(value)], [make(value)])
    assert apart.low < 0 < apart.high


def test_one_sample_tells_nothing_apart():
    ours, theirs = (Measured(0, v, np.full(100, v), True, 1, True) for v in (100.0, 0.0))
    assert not distinguishable(of_difference([ours], [theirs]))
    assert of_metric([ours]).low < 50
    assert math.isnan(of_metric([Measured(0, 33.0, np.full(100, 33.0), True, 1)]).low)


def test_nothing_is_said_where_nothing_is_known():
    found = of_difference([Measured(0, 40.0)], [Measured(0, 41.0)])
    assert found.value == -1 and math.isnan(found.low) and found.basis == "nothing"
    assert not distinguishable(found)


def test_undefined_metrics_are_left_out(right):
    undefined = Measured(2, math.nan, np.full(4000, math.nan), True, N, True)
    assert of_metric([run(right[0]), undefined]) == of_metric([run(right[0])])
    assert math.isnan(of_metric([undefined]).value)
    assert of_difference([undefined], [run(right[0])]).basis == "nothing"


def test_one_run_without_outcomes_makes_it_sums(right):
    found = of_difference([run(right[0])], [sums(80.0)])
    assert found.basis == "sums"
    alone = of_metric([sums(80.0)])
    assert found.high - found.low == pytest.approx(math.sqrt(2) * (alone.high - alone.low), rel=0.05)


def test_a_higher_level_is_wider(right):
    assert of_metric([run(right[0])], 0.99).low < of_metric([run(right[0])], 0.9).low


def test_draws_of_sums_are_of_counted_metrics_only():
    found = measured(0, {"top1": 80.0, "box_ap": 30.0, "oa": math.nan}, ("top1", "oa"), 100)
    assert found["top1"].draws.std() == pytest.approx(4.0, rel=0.1) and not found["top1"].paired
    assert found["box_ap"].draws is None and found["oa"].draws is None


@pytest.mark.parametrize("samples", [1, 2, 5, 20, 50])
def test_a_difference_lies_in_its_interval_and_in_what_percentages_can_be(samples):
    for right in (1.0, 0.0):
        ours = Measured(0, 100 * right, np.full(100, 100 * right), True, samples, True)
        theirs = Measured(0, 100 - 100 * right, np.full(100, 100 - 100 * right), True, samples, True)
        found = of_difference([ours], [theirs])
        assert -100 <= found.low <= found.value <= found.high <= 100 and abs(found.value) == 100
