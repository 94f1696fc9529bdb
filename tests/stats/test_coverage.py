"""Intervals hold the truth as often as they say; `python -m aiqvit.stats.coverage` measures all regimes."""

import pytest

from aiqvit.stats import coverage as module
from aiqvit.stats.coverage import REGIMES, coverage

PAIRS = 1000  # shares of them are known to 0.7 percentage points


def of(name, **changed):
    return coverage(next(r for r in REGIMES if r.name == name), PAIRS, draws=200, **changed)


@pytest.mark.parametrize("name", [
    "1 seed, 200 samples", "3 seeds, small effect, 200 samples", "3 seeds, large effect", "3 other seeds, small effect",
    "mean over classes, 1 seed", "continuous, 1 seed", "sums, 1 seed, other samples",
])
def test_95_percent_of_the_intervals_hold_the_truth(name):
    found = of(name)
    assert 0.93 <= found.difference <= 0.97
    assert 0.93 <= found.metric <= 0.97


def test_pairing_makes_intervals_narrower_and_sums_do_not_claim_it():
    assert of("1 seed").width < 0.75 * of("sums, 1 seed, same samples").width
    assert of("sums, 1 seed, same samples").difference > 0.97


def test_few_samples_that_tell_runs_apart_make_no_difference():
    assert of("1 seed, nearly alike, 200 samples").difference > 0.95


def test_the_command_prints_a_table(monkeypatch, capsys):
    monkeypatch.setattr(module, "REGIMES", REGIMES[1:2])
    assert module.main(["--pairs", "20"]) == 0
    assert "| 1 seed, 200 samples | samples |" in capsys.readouterr().out
