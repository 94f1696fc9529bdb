"""Records are whole or not there."""

import json
import os

import numpy as np
import pytest
import torch

from aiqvit.harness import store as module
from aiqvit.harness.store import Store, plain
from aiqvit.interfaces import UserError

RECORD = {"id": "run-1", "status": "done", "label": "Toy", "spec": {}, "metrics": {"top1": 50.0}, "fp32": None,
          "calibration_images": 3, "times": {}, "log": [], "scheme": [], "manifest": {}, "data": {}}
ERROR = {"type": "Diverged", "message": "the loss is nan", "traceback": "..."}


def test_round_trip_and_nothing_left_behind(tmp_path):
    store = Store(tmp_path)
    assert store.read("run-1") is None
    store.write(RECORD)
    assert store.read("run-1") == store.finished("run-1") == RECORD
    assert os.listdir(store.folder) == ["run-1.json"]


def test_failed_runs_are_not_finished(tmp_path):
    Store(tmp_path).write(RECORD | {"status": "failed", "error": ERROR})
    assert Store(tmp_path).read("run-1")["status"] == "failed"
    assert Store(tmp_path).finished("run-1") is None


@pytest.mark.parametrize("text", ["", '{"id": "run-1", "sta', "[1]", '{"id": "other", "status": "done"}', "\x00\xff"])
def test_corrupt_and_foreign_files_are_named_and_skipped(tmp_path, capsys, text):
    store = Store(tmp_path)
    store.folder.mkdir()
    store.path("run-1").write_text(text, encoding="latin-1")
    assert store.read("run-1") is None
    assert "run-1.json" in capsys.readouterr().err
    store.write(RECORD)
    assert store.read("run-1") == RECORD


def test_killed_while_writing_keeps_the_old_record(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write(RECORD)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write(RECORD | {"metrics": {"top1": 1.0}})
    assert store.read("run-1") == RECORD


def test_a_temporary_file_left_by_kill_is_ignored(tmp_path):
    store = Store(tmp_path)
    store.folder.mkdir()
    (store.folder / ".run-1.json-abc.tmp").write_text('{"id": "run-1"')
    assert store.read("run-1") is None
    store.write(RECORD)
    assert store.read("run-1") == RECORD


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "out").write_text("a file")
    for action in (Store(tmp_path / "out").prepare, lambda: Store(tmp_path / "out").write(RECORD)):
        with pytest.raises(UserError, match="cannot write"):
            action()


def test_plain_makes_json_of_tensors_and_of_numbers_that_are_not_finite():
    value = {"a": torch.tensor([1.0, float("nan")]), "b": np.float32(2), 3: (None, True, {"x"}), "c": torch.float32}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "a": [1.0, "nan"],
        "b": 2.0,
        "3": [None, True, ["x"]],
        "c": "torch.float32",
    }
