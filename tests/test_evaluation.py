"""Evaluation as every task has it: what is kept of a run, and full precision's outputs computed once."""

import json
from pathlib import Path

import pytest
import torch
from aiqvit.tasks.imagenet import ImageNet
from aiqvit.tasks.modelnet40 import ModelNet40
from aiqvit.tasks.shapenetpart import ShapeNetPart
from torch import nn

from aiqvit.evaluation import Teacher, outcomes
from aiqvit.harness.store.records import Store
from aiqvit.interfaces import Diverged
from aiqvit.registry import TASKS


def quiet(items, *_, **__):
    return items


def runs(folder="out"):
    return {record["spec"]["method"]: record for record in Store(folder).records()}


def test_a_run_keeps_what_its_model_said(bench, methods):
    assert bench("--method", "toy") == 0
    store, found = Store("out"), runs()
    for record in found.values():
        said = store.outcomes(record)
        assert len(said.samples) == record["metrics"]["images"] == 15
        scores = {name: value.item() for name, value in ImageNet.score(said, said.once()).items()}
        assert scores == {name: record["metrics"][name] for name in ("top1", "top5", "agreement", "kl")}
    assert said.samples[0].startswith("val/n01440764/") and said.samples == store.outcomes(found["fp32"]).samples
    assert (found["fp32"]["metrics"]["agreement"], found["fp32"]["metrics"]["kl"]) == (100, 0)
    assert found["toy"]["metrics"]["kl"] > 0 and found["toy"]["fp32"]["kl"] == 0


def test_the_same_run_keeps_the_same_bytes(bench, methods):
    for out in ("a", "b"):
        assert bench("--method", "toy", out=out) == 0
    kept = [{path.name: path.read_bytes() for path in Path(out, "outcomes").iterdir()} for out in ("a", "b")]
    assert kept[0] == kept[1] and len(kept[0]) == 2
    assert runs("a")["toy"]["outcomes"] == runs("b")["toy"]["outcomes"] != ""


def test_a_failed_run_keeps_none(bench, methods):
    assert bench("--method", "nan") == 1
    assert "outcomes" not in runs()["nan"] and "not finite" in runs()["nan"]["error"]["message"]


def test_a_record_survives_outcomes_that_cannot_be_written(bench, methods, capsys):
    Path("out").mkdir()
    Path("out", "outcomes").write_text("in the way")
    assert bench("--method", "toy") == 0
    assert "goes without outcomes" in capsys.readouterr().err
    assert runs()["toy"]["outcomes"] == "" and Store("out").outcomes(runs()["toy"]) is None


def test_full_precision_is_computed_once(imagenet, weights):
    task = ImageNet(str(imagenet))
    subject = task.load("test_vit", str(weights))
    calls = []
    subject.model.register_forward_hook(lambda *_: calls.append(1))
    teacher, other = Teacher(subject.model), task.load("test_vit", str(weights)).model
    for _ in range(3):
        said = task.outcomes(other, subject, limit=None, batch_size=4, device="cpu", progress=quiet, teacher=teacher)
    assert len(calls) == 4 and said.arrays["kl"].max() < 1e-6
    teacher = Teacher(subject.model)  # full precision itself: its outputs are kept, not computed again
    task.outcomes(subject.model, subject, limit=None, batch_size=4, device="cpu", progress=quiet, teacher=teacher)
    task.outcomes(other, subject, limit=None, batch_size=4, device="cpu", progress=quiet, teacher=teacher)
    assert len(calls) == 8


@pytest.mark.parametrize("task", [ModelNet40("mini"), ShapeNetPart("mini"), ImageNet("mini")], ids=lambda t: t.name)
def test_every_task_scores_what_it_keeps(task):
    subject = task.load(task.models[0])
    said = task.outcomes(subject.model, subject, limit=24, batch_size=7, device="cpu", progress=quiet)
    assert len(set(said.samples)) == len(said.samples) == 24
    assert all(len(array) == 24 for array in said.arrays.values())
    whole = task.evaluate(subject.model, subject, limit=24, batch_size=24, device="cpu", progress=quiet)
    assert whole == task.metrics_of(said, 24) and whole["images"] == 24 and whole["skipped"] == 0
    assert set(task.counted) <= {*whole, "agreement"}


def test_an_output_that_is_not_finite_diverges(imagenet, weights):
    task = ImageNet(str(imagenet))
    subject = task.load("test_vit", str(weights))
    nn.init.constant_(subject.model.head.bias, float("inf"))
    with pytest.raises(Diverged, match="the model's outputs are not finite"):
        outcomes(task, subject.model, task.labelled(subject, [0], 1), "cpu")


def test_a_metric_in_nats_may_be_above_a_hundred(bench, methods, monkeypatch):
    real = ImageNet.judge

    def far(self, outputs, batch, plain):
        found = real(self, outputs, batch, plain)
        return found | {"kl": found["kl"] + 1000}

    monkeypatch.setattr(ImageNet, "judge", far)
    assert bench("--method", "toy") == 0 and runs()["toy"]["metrics"]["kl"] > 1000
    path = next(Path("out", "runs").glob("*toy*"))
    assert json.loads(path.read_text())["metrics"]["kl"] > 1000


def test_what_is_counted_is_a_metric():
    for name in TASKS.names():
        cls = TASKS.get(name)
        assert set(cls.counted) <= {*cls.metrics, "agreement"} and ("agreement" in cls.counted) == cls.taught


def test_a_teacher_s_outputs_are_kept_by_the_names_of_a_batch():
    teacher = Teacher(nn.Identity())
    one = teacher.outputs(["a", "b"], lambda net: net(torch.ones(2)))
    assert teacher.outputs(["a", "b"], lambda net: torch.zeros(2)) is one
    assert teacher.outputs(["a"], lambda net: torch.zeros(1)).tolist() == [0]
