"""A run whose data, weights or results are not what they have to be is recorded as failed, never as done."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from aiqvit.harness.store.records import Store, sealed
from aiqvit.registry import METHODS
from tests.conftest import Toy

pytestmark = pytest.mark.usefixtures("methods")


@pytest.fixture
def during(imagenet, bench, tmp_path, monkeypatch, capsys):
    """Run the toy method on a copy of the data and call `change(folder)` while it quantizes."""
    data = shutil.copytree(imagenet, tmp_path / "data")

    def call(change) -> tuple[int, dict, str]:
        real = Toy.quantize

        def quantize(self, job):
            change(data)
            return real(self, job)

        monkeypatch.setattr(Toy, "quantize", quantize)
        code = bench("--method", "toy", data=str(data))
        found = [json.loads(p.read_text()) for p in Path("out/runs").glob("*toy*.json")]
        return code, found[0] if found else {}, capsys.readouterr().err

    return call


def pictures(folder, split):
    return sorted((folder / split).rglob("*.JPEG"))


def replace(split):
    def change(folder):
        for path in pictures(folder, split):
            Image.new("RGB", (30, 31)).save(path)
    return change


def remove(split):
    def change(folder):
        for path in pictures(folder, split)[1:]:
            path.unlink()
    return change


@pytest.mark.parametrize("change", [replace("val"), replace("train"), remove("val"), remove("train")])
def test_data_that_changes_during_a_run(during, change):
    code, record, _ = during(change)
    assert code == 1 and record["status"] == "failed" and record["metrics"] == {}
    assert "the data changed while the run read it" in record["error"]["message"]


def test_data_that_is_touched_is_the_same(during):
    code, record, _ = during(lambda folder: [path.touch() for path in pictures(folder, "val")])
    assert code == 0 and record["status"] == "done"


def test_weights_that_change_after_the_plan(bench, monkeypatch, capsys):
    from aiqvit.harness.run import executor

    real = executor.Executor.subject

    def other(self, model):
        found = real(self, model)
        found.checksum = "0" * 64
        return found

    monkeypatch.setattr(executor.Executor, "subject", other)
    assert bench("--method", "toy") == 2
    assert "the weights of test_vit changed since the command began" in capsys.readouterr().err


@pytest.mark.parametrize(("log", "place"), [([{"unit": 3}], "log.0.unit"), ([{"kept": "perhaps"}], "log.0.kept")])
def test_what_a_method_cannot_log(bench, monkeypatch, capsys, log, place):
    """It would not be read again: the run fails with the reason, and is in the folder as failed."""
    def quantize(self, job):
        job.log += log
        return METHODS.get("fp32")().quantize(job)

    monkeypatch.setattr(Toy, "quantize", quantize)
    assert bench("--method", "toy", "--partial") == 1
    (record,) = [r for r in Store("out").records() if r["spec"]["method"] == "toy"]
    assert record["status"] == "failed" and place in record["error"]["message"]
    assert "skipping" not in capsys.readouterr().err


class Odd(BaseException):
    """An error of another package that is none of Python's exceptions, and has no text."""

    def __str__(self):
        raise ValueError


def log_of_itself(job):
    job.log.append(job.__dict__)
    job.__dict__["log"] = job.log
    return METHODS.get("fp32")().quantize(job)


def odd(job):
    raise Odd


@pytest.mark.parametrize("does", [log_of_itself, odd, lambda job: exit(0)], ids=["log", "error", "exit"])
def test_a_method_that_misbehaves_fails_its_own_run_only(bench, monkeypatch, does):
    monkeypatch.setattr(Toy, "quantize", lambda self, job: does(job))
    assert bench("--method", "toy,fp32", "--partial") == 1
    status = {r["spec"]["method"]: r["status"] for r in Store("out").records()}
    assert status == {"toy": "failed", "fp32": "done"}


def test_pictures_that_cannot_be_drawn_cost_no_numbers(bench, monkeypatch, capsys):
    from aiqvit.tasks.imagenet import ImageNet

    monkeypatch.setattr(ImageNet, "draw", lambda *_: Path("/dev/null/x").mkdir())
    assert bench("--method", "toy", "--save-images", "1") == 0
    assert "cannot be drawn: " in capsys.readouterr().err
    assert {r["status"] for r in Store("out").records()} == {"done"}


def test_a_record_without_the_task_s_metrics_is_run_again(bench, executed):
    assert bench("--method", "toy") == 0
    (record,) = [r for r in Store("out").records() if r["spec"]["method"] == "toy"]
    Store("out").write(sealed(record | {"metrics": {"foo": 1.0}}))
    executed.clear()
    assert bench("--method", "toy") == 0 and executed == ["Toy 4/4 0"]
