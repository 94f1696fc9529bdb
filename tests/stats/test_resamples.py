"""Bootstrap counts."""

import numpy as np
import pytest

from aiqvit.interfaces import UserError
from aiqvit.stats import resamples as module
from aiqvit.stats.resamples import resamples, scores


def test_each_draw_is_of_all_samples_with_replacement():
    counts = resamples(50, 4000)
    assert counts.shape == (4000, 50) and (counts.sum(1) == 50).all()
    assert counts.mean(0) == pytest.approx(1, abs=0.08)
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=0.02)  # of a multinomial


def test_runs_on_the_same_samples_get_the_same_draws():
    assert (resamples(20, 10) == resamples(20, 10)).all()
    assert (resamples(20, 10) != resamples(20, 10, seed=1)).any()


def test_the_bootstrap_of_a_mean_is_the_normal_formula():
    values = np.random.default_rng(3).gamma(2.0, size=400)
    drawn = scores(lambda weights: {"mean": weights @ values / weights.sum(1)}, 400, 8000)["mean"]
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.01)
    assert drawn.std() == pytest.approx(values.std() / 20, rel=0.03)


def test_blocks_of_draws_are_the_draws(monkeypatch):
    values = np.arange(30.0)
    whole = resamples(30, 100) @ values
    monkeypatch.setattr(module, "BLOCK", 210)  # seven draws
    assert (scores(lambda weights: {"sum": weights @ values}, 30, 100)["sum"] == whole).all()


@pytest.mark.parametrize(("samples", "draws"), [(0, 100), (5, 1)])
def test_nothing_to_draw_is_refused(samples, draws):
    with pytest.raises(UserError, match=f"{draws} draws of {samples} samples"):
        resamples(samples, draws)
