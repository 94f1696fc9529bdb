"""The time left comes from the most alike past runs."""

from dataclasses import asdict, replace

import pytest
from aiqvit.baselines.minmax import MinMax

from aiqvit.harness.identity.spec import Run
from aiqvit.harness.launch.estimate import duration, seconds_left, sentence
from aiqvit.harness.store.records import plain
from tests.harness.identity.test_spec import SPEC


def past(seconds: float, status: str = "done", **changed) -> dict:
    return {"spec": plain(asdict(replace(SPEC, **changed))), "status": status,
            "times": {"quantize": seconds - 1, "evaluate": 1}}


def left(**changed) -> float | None:
    run = Run(replace(SPEC, **changed), MinMax())
    records = [past(10, seed=1), past(20, seed=2), past(90, seed=3), past(200, bits="8/8"), past(1000, model="other"),
               past(5, "failed", model="third"), {"spec": {}, "status": "done", "times": {}}]
    return seconds_left([run], records).get(run.spec.id)


def test_the_closest_kind_of_likeness_decides():
    assert left(seed=4) == 20  # the median of those that differ in the seed alone
    assert left(bits="3/3") == 55  # the median of the other bit widths
    assert left(settings={"images": 999}) == 55
    assert left(model="fourth") == 90  # the median of all models
    assert left(model="third") == 90  # a failed run tells nothing
    assert left(method="new") is None and left(preset="paper") is None


def test_the_sentence_says_where_it_comes_from():
    assert sentence(0, {}, 1) == "nothing is left to do"
    assert "2 runs left; no past run here is alike" in sentence(2, {}, 1)
    text = sentence(3, {"a": 300.0, "b": 300.0}, 2)
    assert text.startswith("about 5 min left for 2 runs, 2 side by side")
    assert text.endswith("; 1 run more with no past run alike")


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "5 s"), (120, "2 min"), (9000, "2.5 h")])
def test_duration(seconds, text):
    assert duration(seconds) == text
