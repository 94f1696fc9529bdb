"""Records are whole or not there; what is in them: `test_trust`."""

import errno
import json
import os

import numpy as np
import pytest
import torch

from aiqvit.harness.store.records import Store, changed_since, plain, sealed
from aiqvit.harness.store.schema import checksum
from aiqvit.harness.store.trust import signed
from aiqvit.interfaces import UserError
from aiqvit.io import files as module
from tests.report.make_records import of_before, record, write

RECORD = sealed(record("minmax", "m", {"top1": 50.0}))
RUN = RECORD["id"]


def changed(change):
    """The record with other values inside its fields, as somebody who knows the format would write it."""
    made = {**RECORD, **change}
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(RECORD.get(key), dict):
            made[key] = RECORD[key] | value
    return made | {"checksum": checksum(made)}


def put(store, made, name=RUN):
    store.folder.mkdir(exist_ok=True)
    store.path(name).write_text(json.dumps(made), encoding="utf-8")


ERROR = {"type": "Diverged", "message": "the loss is nan", "traceback": "..."}


def test_round_trip_and_nothing_left_behind(tmp_path):
    store = Store(tmp_path)
    assert store.read(RUN) is None
    store.write(RECORD)
    assert store.read(RUN) == store.finished(RUN) == RECORD
    assert os.listdir(store.folder) == [f"{RUN}.json"]


def test_failed_runs_are_not_finished(tmp_path):
    put(Store(tmp_path), changed({"status": "failed", "error": ERROR}))
    assert Store(tmp_path).read(RUN)["status"] == "failed"
    assert Store(tmp_path).finished(RUN) is None


@pytest.mark.parametrize("text", ["", '{"id": "run-1", "sta', "[1]", '{"id": "other", "status": "done"}', "\x00\xff",
                                  "[" * 100_000, '{"a":' * 100_000, '{"id": NaN}', "1" * 10_000])
def test_corrupt_and_foreign_files_are_named_and_skipped(tmp_path, capsys, text):
    store = Store(tmp_path)
    store.folder.mkdir()
    store.path(RUN).write_text(text, encoding="latin-1")
    assert store.read(RUN) is None
    assert f"{RUN}.json" in capsys.readouterr().err
    store.write(RECORD)
    assert store.read(RUN) == RECORD


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_regular_file_is_named_and_skipped(tmp_path, capsys, make):
    store = Store(tmp_path)
    store.folder.mkdir()
    make(store.path(RUN))
    assert store.read(RUN) is None and list(store.records()) == []
    assert capsys.readouterr().err.count("it is not a regular file") == 2


def test_killed_while_writing_keeps_the_old_record(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write(RECORD)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write(changed({"metrics": {"top1": 1.0}}))
    assert store.read(RUN) == RECORD


def test_a_temporary_file_left_by_kill_is_ignored(tmp_path):
    store = Store(tmp_path)
    store.folder.mkdir()
    (store.folder / f".{RUN}.json-abc.tmp").write_text('{"id": "run-1"')
    assert store.read(RUN) is None
    store.write(RECORD)
    assert store.read(RUN) == RECORD


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "out").write_text("a file")
    for action in (Store(tmp_path / "out").prepare, lambda: Store(tmp_path / "out").write(RECORD)):
        with pytest.raises(UserError, match="cannot write"):
            action()


def test_plain_makes_json_of_tensors_and_of_numbers_that_are_not_finite():
    value = {"a": torch.tensor([1.0, float("nan")]), "b": np.float32(2), 3: (None, True, {"x"}), "c": torch.float32,
             "d\udcff": "x\udcff"}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "a": [1.0, "nan"],
        "b": 2.0,
        "3": [None, True, ["x"]],
        "c": "torch.float32",
        "d\\udcff": "x\\udcff",
    }


def test_fields_of_a_later_version_do_no_harm(tmp_path, capsys):
    Store(tmp_path).write(sealed(RECORD | {"carbon": {"grams": 3}}))
    assert Store(tmp_path).finished(RUN)["carbon"] == {"grams": 3}
    assert capsys.readouterr().err == ""


def test_a_newer_format_is_named(tmp_path, capsys):
    put(Store(tmp_path), changed({"format": 3}))
    assert Store(tmp_path).read(RUN) is None and "newer version of aiqvit" in capsys.readouterr().err


def test_all_records_without_what_is_none(tmp_path, capsys):
    store = Store(tmp_path)
    assert list(store.records()) == []
    write(tmp_path, record("fp32", "m", {"top1": 60.0}), RECORD)
    (store.folder / "notes.json").write_text('{"name": "package"}')
    (store.folder / ".run-2.json-x.tmp").write_text("{")
    assert [record["spec"]["method"] for record in store.records()] == ["fp32", "minmax"]
    assert "notes.json: it is not the record of this run" in capsys.readouterr().err


def test_on_a_full_disk_the_record_is_kept_elsewhere(tmp_path, monkeypatch):
    real = os.replace

    def full(source, target):
        if "runs" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(module.os, "replace", full)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "tmp"))
    with pytest.raises(UserError, match=f"No space left on device; the record is kept in '.*{RUN}.json'"):
        Store(tmp_path).write(RECORD)
    (kept,) = (tmp_path / "tmp").glob("aiqvit-unsaved-*/*")
    assert json.loads(kept.read_text()) == RECORD and list((tmp_path / "runs").iterdir()) == []
    monkeypatch.undo()
    kept.rename(tmp_path / "runs" / f"{RUN}.json")
    assert Store(tmp_path).finished(RUN) == RECORD


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


def test_a_record_of_before_has_a_label_in_place_of_defaults_and_no_checksum(tmp_path, capsys):
    old = of_before(record("minmax", "m", {"top1": 50.0}), "Toy [steps=3]")
    write(tmp_path, old)
    found = Store(tmp_path).finished(old["id"])
    assert found["label"] == "Toy [steps=3]" and not signed(found)
    write(tmp_path, {key: value for key, value in old.items() if key != "label"})
    assert Store(tmp_path).finished(old["id"]) is None and "neither defaults nor a label" in capsys.readouterr().err


def test_changed_since_needs_both_hashes():
    new, old, unknown = ({"manifest": m, "spec": s} for m, s in (({"source": "a"}, {}), ({}, {"code": "a"}), ({}, {})))
    assert [changed_since(r, "b") for r in (new, old, unknown)] == [True, True, False]
    assert not any(changed_since(r, source) for r in (new, old) for source in ("a", ""))


def test_numbers_that_are_not_finite_come_back(tmp_path):
    Store(tmp_path).write(sealed(RECORD | {"metrics": {"top1": float("nan"), "images": 3}}))
    assert Store(tmp_path).read(RUN)["metrics"]["top1"] != Store(tmp_path).read(RUN)["metrics"]["top1"]


def test_what_is_no_folder_is_told_before_anything_is_written(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "file").write_text("")
    for name in ("pipe", "loop", "zero", "file", "file/deeper"):
        with pytest.raises(UserError, match=f"cannot write to '.*': '.*{name.partition('/')[0]}' is no folder"):
            Store(tmp_path / name).check()
    Store(tmp_path / "new" / "deep").check()
    Store(tmp_path).check()
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    Store(tmp_path / "link").check()
    assert not (tmp_path / "new").exists() and not list((tmp_path / "out").iterdir())
