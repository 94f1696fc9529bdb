"""The command called again: what is stale, what is done once, in which order."""

from dataclasses import replace

import pytest
from aiqvit.tasks.imagenet import ImageNet

from aiqvit.harness.run import runner
from tests.conftest import MODEL
from tests.test_bench import records

pytestmark = pytest.mark.usefixtures("methods")


def test_stale_runs_are_done_unless_asked_for(bench, executed, tmp_path, monkeypatch, capsys):
    assert bench("--method", "toy") == 0
    assert bench("--method", "toy", "--stale") == 0 and len(executed) == 2
    monkeypatch.setattr("aiqvit.harness.launch.plan.code_hash", lambda *classes: f"other {classes[0].__name__}")
    executed.clear()
    capsys.readouterr()
    assert bench("--method", "toy") == 0 and executed == []
    out = capsys.readouterr().out
    assert "Toy†" in out and out.count("- †: the source of the method or the task has changed since") == 1
    assert bench("--method", "toy", "--dry-run") == 0
    out = capsys.readouterr().out
    assert out.count("done, stale ") == 2 and "imagenet: nothing is left to do\nimagenet: 2 stale, made by" in out
    assert bench("--method", "toy", "--stale", "--dry-run") == 0
    assert capsys.readouterr().out.count("stale, to be run again") == 2 and executed == []
    assert bench("--method", "toy", "--stale") == 0
    assert executed == ["Full precision 32/32 0", "Toy 4/4 0"] and "†" not in capsys.readouterr().out
    assert records(tmp_path)["Toy 4/4"]["manifest"]["source"] == "other Toy"
    assert bench("--method", "toy", "--stale") == 0 and len(executed) == 2
    assert bench("--force", "--stale") == 2 and "give one of them" in capsys.readouterr().err


def test_models_follow_each_other_and_a_run_typed_twice_is_done_once(bench, executed, capsys, monkeypatch):
    real = ImageNet.load
    monkeypatch.setattr(ImageNet, "load", lambda self, name, weights=None: _named(real, self, name, weights))
    monkeypatch.setattr("aiqvit.harness.launch.request.Request.models", lambda self, task: ["b", "a"])
    assert bench("--method", "toy,toy[steps=2]") == 0  # 2 is what quick says anyway
    assert executed == ["Full precision 32/32 0", "Toy 4/4 0"] * 2
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if line[:1] == "["] == ["b", "b", "a", "a"]


def _named(real, task, name, weights):
    return replace(real(task, MODEL, weights), name=name)


def test_partial_reaches_the_run(bench, monkeypatch):
    seen, real = [], runner.run
    monkeypatch.setattr(runner, "run", lambda item, *rest: seen.append(item.partial) or real(item, *rest))
    assert bench("--method", "fp32") == bench("--method", "fp32", "--partial", "--force") == 0
    assert seen == [False, True]
