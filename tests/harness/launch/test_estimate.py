"""The time left comes from the most alike past runs."""

from dataclasses import asdict, replace
from types import MappingProxyType, SimpleNamespace

import pytest
from aiqvit.baselines.minmax import MinMax

from aiqvit.harness.identity.spec import Run
from aiqvit.harness.launch import estimate, typical
from aiqvit.harness.launch.estimate import duration, seconds_left, sentence
from aiqvit.harness.store.records import plain
from aiqvit.registry import METHODS
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


def run(**changed) -> Run:
    return Run(replace(SPEC, **changed), MinMax())


def test_the_sentence_says_where_it_comes_from(monkeypatch):
    monkeypatch.setattr(estimate, "typical", list)
    assert sentence([], [], 1) == "nothing is left to do"
    assert "2 runs left; no past run here is alike" in sentence([run()], [], 1, 1)
    text = sentence([run(seed=7), run(seed=8)], [past(300)], 2, 1)
    assert text.startswith("about 5 min left for 2 runs, 2 side by side (medians of the past runs in this folder")
    assert text.endswith("; 1 run more with no past run alike")
    known = {"status": "done", "times": {"quantize": 599.0, "evaluate": 1.0},
             "spec": {"task": SPEC.task, "model": "new", "method": SPEC.method, "preset": SPEC.preset, "device": "cpu"}}
    monkeypatch.setattr(estimate, "typical", lambda: [known])
    text = sentence([run(seed=7), run(model="new", preset=SPEC.preset)], [past(60)], 1)
    assert text.startswith("about 2 min left for 2 runs (medians")  # past runs here come first, of another model too
    assert sentence([run(model="new")], [], 1) == ("about 10 min left for 1 run (what such runs took on another "
                                                   "machine)")


def test_what_runs_took_elsewhere_is_written_from_records_and_read_again(tmp_path, monkeypatch):
    def record(seconds: float, defaults: dict = MappingProxyType({}), **changed) -> dict:
        return past(seconds, threads=1, device="cpu", limit=None, **changed) | {"defaults": dict(defaults)}

    records = [record(10), record(20), record(60), record(900, {"images": 7}), record(900) | {"status": "failed"}]
    monkeypatch.setattr(typical, "PATH", tmp_path / "t.csv")
    monkeypatch.setattr(typical, "Store", lambda folder: SimpleNamespace(records=lambda: records))
    typical.main(["folder"])
    (line,) = typical.typical()
    assert line["times"] == {"quantize": 19, "evaluate": 1} and line["spec"]["method"] == SPEC.method


def test_the_file_in_the_package_knows_every_method_on_mini_pictures():
    known = {line["spec"]["method"] for line in typical.typical() if line["spec"]["task"] == "imagenet-mini"}
    assert {name for name in METHODS.names() if not METHODS.get(name).only_in_grids} <= known
    assert {line["spec"]["task"] for line in typical.typical()} == {
        f"{task}-mini" for task in ("imagenet", "coco", "modelnet40", "shapenetpart")}


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "5 s"), (120, "2 min"), (9000, "2.5 h")])
def test_duration(seconds, text):
    assert duration(seconds) == text
