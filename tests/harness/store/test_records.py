"""Records are whole or not there."""

import errno
import json
import os

import numpy as np
import pytest
import torch

from aiqvit.harness.store.records import Store, changed_since, plain
from aiqvit.interfaces import UserError
from aiqvit.io import files as module

RECORD = {"id": "run-1", "status": "done", "defaults": {}, "spec": {}, "metrics": {"top1": 50.0}, "fp32": None,
          "calibration_images": 3, "times": {"quantize": 1.0, "evaluate": 1.0},
          "log": [], "scheme": [], "manifest": {}, "data": {}}
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


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
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


@pytest.mark.parametrize("change", [
    {"metrics": {}}, {"metrics": "50"}, {"spec": None}, {"times": []}, {"status": "failed"}, {"fp32": 3},
    {"coverage": 0.5},
], ids=str)
def test_a_record_that_lacks_something_is_named_and_skipped(tmp_path, capsys, change):
    Store(tmp_path).write(RECORD | change)
    assert Store(tmp_path).read("run-1") is None
    message = "it has no error" if change == {"status": "failed"} else f"its field {next(iter(change))!r} is"
    assert message in capsys.readouterr().err


def test_fields_of_a_later_version_do_no_harm(tmp_path, capsys):
    Store(tmp_path).write(RECORD | {"carbon": {"grams": 3}})
    assert Store(tmp_path).finished("run-1")["carbon"] == {"grams": 3}
    assert capsys.readouterr().err == ""


def test_all_records_without_what_is_none(tmp_path, capsys):
    store = Store(tmp_path)
    assert list(store.records()) == []
    store.write(RECORD)
    store.write(RECORD | {"id": "run-0"})
    (store.folder / "notes.json").write_text('{"name": "package"}')
    (store.folder / ".run-2.json-x.tmp").write_text("{")
    assert [record["id"] for record in store.records()] == ["run-0", "run-1"]
    assert "notes.json: it is not the record of this run" in capsys.readouterr().err


def test_on_a_full_disk_the_record_is_kept_elsewhere(tmp_path, monkeypatch):
    real = os.replace

    def full(source, target):
        if "runs" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(module.os, "replace", full)
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    with pytest.raises(UserError, match="No space left on device; the record is kept in '.*run-1.json'"):
        Store(tmp_path).write(RECORD)
    kept = tmp_path / "tmp" / "aiqvit-unsaved" / "run-1.json"
    assert json.loads(kept.read_text()) == RECORD and list((tmp_path / "runs").iterdir()) == []
    monkeypatch.undo()
    kept.rename(tmp_path / "runs" / "run-1.json")
    assert Store(tmp_path).finished("run-1") == RECORD


def test_on_full_disks_the_record_is_printed(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "replace", full)
    with pytest.raises(UserError, match="the record is printed above"):
        Store(tmp_path).write(RECORD)
    assert json.loads(capsys.readouterr().err) == RECORD


def test_a_read_only_folder_is_told_before_any_work(tmp_path, monkeypatch):
    def read_only(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", read_only)
    with pytest.raises(UserError, match="cannot write to '.*runs': Read-only file system"):
        Store(tmp_path).prepare()


def test_a_record_of_before_has_a_label_in_place_of_defaults(tmp_path, capsys):
    old = {k: v for k, v in RECORD.items() if k != "defaults"}
    Store(tmp_path).write(old | {"label": "Toy [steps=3]"})
    assert Store(tmp_path).finished("run-1")["label"] == "Toy [steps=3]"
    Store(tmp_path).write(old)
    assert Store(tmp_path).finished("run-1") is None and "it has no defaults" in capsys.readouterr().err


def test_changed_since_needs_both_hashes():
    new, old, unknown = ({"manifest": m, "spec": s} for m, s in (({"source": "a"}, {}), ({}, {"code": "a"}), ({}, {})))
    assert [changed_since(r, "b") for r in (new, old, unknown)] == [True, True, False]
    assert not any(changed_since(r, source) for r in (new, old) for source in ("a", ""))


@pytest.mark.parametrize(("change", "field"), [
    ({"metrics": {"top1": "n/a"}}, "metrics.top1"), ({"metrics": {"top1": None}}, "metrics.top1"),
    ({"metrics": {"top1": [1]}}, "metrics.top1"), ({"metrics": {"top1": True}}, "metrics.top1"),
    ({"fp32": {"top1": "-"}}, "fp32.top1"), ({"times": {"quantize": "1 min", "evaluate": 1}}, "times.quantize"),
    ({"times": {"quantize": -1.0, "evaluate": 1}}, "times.quantize"), ({"times": {}}, "times"),
    ({"spec": {"bits": 4}}, "spec.bits"), ({"spec": {"bits": "four"}}, "spec.bits"),
    ({"spec": {"seed": "0"}}, "spec.seed"), ({"spec": {"limit": "all"}}, "spec.limit"),
    ({"spec": {"settings": []}}, "spec.settings"), ({"log": [1]}, "log"), ({"scheme": ["x"]}, "scheme"),
    ({"data": {"skipped": 3}}, "data.skipped"), ({"manifest": {"started": 2026}}, "manifest.started"),
    ({"calibration_images": True}, "calibration_images"), ({"status": "failed", "error": {}}, "error.type"),
])
def test_records_of_other_kinds_are_skipped_by_name(tmp_path, capsys, change, field):
    store = Store(tmp_path)
    store.write(RECORD | change)
    assert store.read("run-1") is None
    text = capsys.readouterr().err
    assert "run-1.json" in text and field in text


def test_numbers_that_are_not_finite_come_back(tmp_path):
    Store(tmp_path).write(RECORD | {"metrics": {"top1": float("nan"), "top5": float("inf")}})
    found = Store(tmp_path).read("run-1")["metrics"]
    assert found["top1"] != found["top1"] and found["top5"] == float("inf")


def test_text_that_goes_too_deep(tmp_path, capsys):
    Store(tmp_path).write(RECORD)
    Store(tmp_path).path("run-1").write_text("[" * 100_000)
    assert Store(tmp_path).read("run-1") is None and "run-1.json" in capsys.readouterr().err
