"""Statistics of records as tables ask for them: by outcomes, by sums where there are none, never mixed up."""

from pathlib import Path

import numpy as np
import pytest
from aiqvit.tasks.imagenet import ImageNet

from aiqvit.bench import main as bench_main
from aiqvit.harness.store.records import Store
from aiqvit.interfaces import Outcomes, UserError
from aiqvit.registry import TASKS
from aiqvit.report.__main__ import main as report
from aiqvit.statistics import Statistics, known, task_of
from tests.report.make_records import record

N = 400


def said(right, samples=N, names="val/{}.png"):
    """Outcomes of a classifier that is right where the array says so."""
    top5 = np.where(right, 0, 9)[:, None] + np.arange(5, dtype=np.int32)
    return Outcomes(tuple(map(names.format, range(samples))), {"label": np.zeros(samples, np.int32), "top5": top5})


def kept(folder, method, right, seed=0, **options):
    """A record with its outcomes in a results folder, as `records.load` gives it."""
    store, outcomes = Store(folder), said(right, len(right), **options)
    made = record(method, "deit_tiny", {"top1": 100 * float(np.mean(right))}, seed=seed, limit=len(right))
    made["outcomes"] = store.write_outcomes(made["id"], outcomes)
    return made | {"folder": str(store.folder)}


def rights(wrong, samples=N):
    right = np.ones(samples, bool)
    right[list(wrong)] = False
    return right


def test_runs_are_compared_sample_by_sample(tmp_path):
    """One run is wrong on 20 samples besides the other's 80: paired they differ, by their sums nobody could say."""
    one, other = kept(tmp_path, "x", rights(range(80))), kept(tmp_path, "y", rights(range(100)))
    statistics = Statistics([one, other])
    assert statistics.indistinguishable([one], [[one], [other]], "top1") == [True, False]
    assert statistics.of([one], "top1").basis == "samples"
    bare = [{**made, "outcomes": ""} for made in (one, other)]
    statistics = Statistics(bare)
    assert statistics.indistinguishable([bare[0]], [[bare[1]]], "top1") == [True]
    assert statistics.of([bare[0]], "top1").basis == "sums"


def test_several_seeds_are_one_cell(tmp_path):
    runs = [kept(tmp_path, "x", rights(range(80 + 4 * seed)), seed) for seed in range(3)]
    found = Statistics(runs).of(runs, "top1")
    assert found.value == pytest.approx(np.mean([run["metrics"]["top1"] for run in runs]))
    assert found.low < found.value < found.high and found.basis == "samples and seeds"


@pytest.mark.parametrize("fault", ["gone", "changed", "other samples", "not scored"])
def test_outcomes_that_cannot_be_used_are_named_and_sums_take_their_place(tmp_path, capsys, fault):
    other = kept(tmp_path, "y", rights(range(100)), **({"names": "{}.jpg"} if fault == "other samples" else {}))
    one, more = kept(tmp_path, "x", rights(range(80))), kept(tmp_path, "z", rights(range(90)))
    path = Store(tmp_path).said / f"{other['id']}.npz"
    if fault == "gone":
        path.unlink()
    elif fault == "changed":
        path.write_bytes(b"x")
    elif fault == "not scored":
        other["outcomes"] = Store(tmp_path).write_outcomes(other["id"], Outcomes(("a",), {"other": np.zeros(1)}))
    statistics = Statistics([other, one, more])  # the one that stands alone is the odd one, though it comes first
    assert [statistics.of([made], "top1").basis for made in (one, more, other)] == ["samples", "samples", "sums"]
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "compared by their sums" in error


def test_a_task_that_is_not_here_has_no_intervals():
    made = record("x", "m", {"score": 50.0}, task="elsewhere")
    found = Statistics([made]).of([made], "score")
    assert found.low != found.low  # NaN
    with pytest.raises(UserError, match="elsewhere"):
        known(made, None)


def test_labels_have_their_tasks():
    assert [task_of(label).name for label in ("imagenet-mini", "imagenet-train-mini", "coco", "modelnet40-h5")] == [
        "imagenet", "imagenet", "coco", "modelnet40"]


def test_a_task_whose_name_begins_with_that_of_another_is_itself(monkeypatch):
    class Mine(ImageNet):
        name = "imagenet-mine"

    monkeypatch.setitem(TASKS._entries, "imagenet-mine", Mine)
    assert task_of("imagenet-mine") is Mine is task_of("imagenet-mine-mini")
    assert task_of("imagenet-mini") is ImageNet


def test_the_tables_of_a_bench_have_intervals_on_request(bench, methods, capsys):
    flags = ("--method", "toy[steps=1],toy[steps=2]", "--seeds", "0,1,2")
    assert bench(*flags) == 0
    plain = capsys.readouterr().out
    assert bench(*flags, "--intervals") == 0
    asked = capsys.readouterr().out
    assert "[" not in plain.partition("| W/A")[2].partition("\n\n")[0].replace("[steps", "")
    assert "(n=3, " in plain and "in brackets: 95 % interval, over samples" in asked
    (path,) = Path("out", "tables").glob("*.csv")
    assert "top1_low" in path.read_text() and ",samples and seeds," in path.read_text()
    pytest.importorskip("matplotlib")
    assert report(["out", "--intervals", "--out", "page.html"]) == 0
    assert "95 % interval" in Path("page.html").read_text()
    assert bench_main(["--help"]) == 0 and "--intervals" in capsys.readouterr().out
