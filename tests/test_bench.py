"""The command from end to end on a tiny folder and a tiny model: exit codes, resumption, tables, wrong input."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from aiqvit.bench import main
from aiqvit.registry import METHODS
from aiqvit.report.labels import label
from tests.conftest import MODEL

pytestmark = pytest.mark.usefixtures("methods")


def records(tmp_path):
    found = [json.loads(p.read_text()) for p in (tmp_path / "out" / "runs").glob("*.json")]
    return {f"{label(r, METHODS.get(r['spec']['method']).title)} {r['spec']['bits']}": r for r in found}


def test_full_precision_comes_first_and_every_record_has_it(bench, executed, tmp_path, capsys):
    assert bench("--method", "toy", bits="4/4,8/8") == 0
    assert executed == ["Full precision 32/32 0", "Toy 4/4 0", "Toy 8/8 0"]
    found = records(tmp_path)
    assert found["Toy 4/4"]["fp32"] == found["Full precision 32/32"]["metrics"]
    toy = found["Toy 4/4"]
    assert toy["spec"]["settings"] == {
        "images": 3,
        "steps": 2,  # quick is the default on a CPU
        "rate": 1e-3,
        "curriculum": True,
        "loss": "mse",
        "ranks": [1, 2],
        "memory": None,
    }
    assert toy["calibration_images"] == 3 and toy["log"][0] == {"unit": "patch_embed", "loss": 3.0}
    assert toy["data"]["val"] == toy["metrics"]["images"] == 15
    assert {"quantize", "evaluate"} == toy["times"].keys()
    assert toy["peak_mib"]["rss"] > 0 < toy["peak_mib"]["rss_before"]
    assert {r["manifest"]["threads"] for r in found.values()} == {1}
    manifest = toy["manifest"]
    assert manifest["packages"]["torch"] and manifest["python"] and manifest["cpu"] and manifest["batch_size"] == 32
    assert len(manifest["source"]) == 12 and toy["spec"]["version"] == "method 1, task 1, engine 1"
    assert "label" not in toy and toy["defaults"] == {"rotate": False} | toy["spec"]["settings"]
    assert found["Full precision 32/32"]["spec"]["version"] == "method 1, task 1"
    assert {"commit", "dirty"} == manifest["git"].keys() if manifest["git"] else True
    assert found["Full precision 32/32"]["fp32"] == found["Full precision 32/32"]["metrics"]
    captured = capsys.readouterr()
    assert captured.out.index("Full precision: top1") < captured.out.index("Toy 4/4 seed 0: top1")
    assert "units: " in captured.err and "evaluate: " in captured.err


def test_second_call_runs_nothing_and_prints_the_same_table(bench, executed, capsys):
    assert bench("--method", "toy") == 0
    first = capsys.readouterr().out
    executed.clear()
    assert bench("--method", "toy") == 0
    second = capsys.readouterr().out
    assert executed == []
    assert first[first.index("\nimagenet, ") :] == second[second.index("\nimagenet, ") :]
    assert bench("--method", "toy", "--seeds", "0,1") == 0
    assert executed == ["Toy 4/4 1"]
    assert bench("--method", "toy", "--force") == 0
    assert executed[1:] == ["Full precision 32/32 0", "Toy 4/4 0"]


def test_failed_runs_are_recorded_retried_and_do_not_stop_the_others(bench, executed, tmp_path, capsys):
    assert bench("--method", "breaks,nan,toy") == 1
    found = records(tmp_path)
    assert found["Breaks 4/4"]["status"] == found["NaN 4/4"]["status"] == "failed"
    assert found["Toy 4/4"]["status"] == "done"
    error = found["Breaks 4/4"]["error"]
    assert (error["type"], error["message"]) == ("Diverged", "blocks.3: the loss is nan")
    assert "raise Diverged" in error["traceback"]
    out = capsys.readouterr().out
    assert "FAILED, Diverged: blocks.3: the loss is nan" in out
    assert f"- failed: {MODEL}, Breaks, 4/4, seed 0: blocks.3: the loss is nan" in out
    executed.clear()
    assert bench("--method", "breaks,toy") == 1
    assert executed == ["Breaks 4/4 0"]


def test_tables_of_this_grid_only(bench, tmp_path):
    assert bench("--method", "toy,toy[steps=9]", "--seeds", "0,1") == 0
    assert bench("--method", "toy[steps=9]", "--seeds", "0,1") == 0
    folder, name = tmp_path / "out" / "tables", "imagenet-quick-steps=9"
    assert sorted(p.name for p in folder.iterdir()) == [f"{name}.{kind}" for kind in ("csv", "md", "tex")]
    text = (folder / f"{name}.md").read_text()
    assert "Toy [steps=9]" in text and "| Toy  " not in text and "(n=2, " in text and "- Toy: a toy" in text
    rows = list(csv.DictReader((folder / f"{name}.csv").open()))
    assert [r["method"] for r in rows] == ["Full precision", "Toy [steps=9]"]
    assert rows[1]["runs"] == "2" and rows[1]["top1_std"] and len(rows[1]["run_ids"].split()) == 2


def test_limit_is_another_run_and_a_marked_table(bench, executed, tmp_path):
    assert bench("--method", "toy", "--limit", "6", "--format", "md") == 0
    text = (tmp_path / "out" / "tables" / "imagenet-quick-limit6.md").read_text()
    assert "LIMITED to 6 images" in text and "6 of 15 validation images" in text
    assert not (tmp_path / "out" / "tables" / "imagenet-quick-limit6.csv").exists()
    executed.clear()
    assert bench("--method", "toy") == 0
    assert len(executed) == 2


def test_dry_run_writes_nothing(bench, tmp_path, capsys):
    assert bench("--method", "toy", "--dry-run") == 0
    assert capsys.readouterr().out.count("pending") == 2
    assert not (tmp_path / "out").exists()
    assert bench("--method", "toy,breaks") == 1
    capsys.readouterr()
    assert bench("--method", "toy,breaks,nan", "--dry-run") == 0
    *runs, estimate = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rstrip(",") for line in runs] == ["done", "done", "failed", "pending"]
    assert estimate == "imagenet: 2 runs left; no past run here is alike, so there is no estimate of the time"
    assert bench("--method", "toy", "--seeds", "0,1", "--dry-run") == 0
    assert re.search(r"^imagenet: about \d+ s left for 1 run \(medians of", capsys.readouterr().out, re.M)


def test_list_shows_methods_and_settings(capsys):
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    assert "tasks: imagenet" in out and "toy: Toy" in out and "steps=5" in out


def test_interrupt_keeps_finished_runs(bench, tmp_path, monkeypatch, capsys):
    def interrupted(self, job):
        raise KeyboardInterrupt

    monkeypatch.setattr(METHODS.get("toy"), "quantize", interrupted)
    assert bench("--method", "toy") == 130
    assert list(records(tmp_path)) == ["Full precision 32/32"]
    assert "interrupted" in capsys.readouterr().err


def test_broken_image_is_named_and_skipped_or_an_error_under_strict(bench, imagenet, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(imagenet, copy)
    (copy / "val" / "n01440764" / "1.JPEG").write_bytes(b"no image")
    assert bench("--method", "fp32", "--strict", data=str(copy)) == 2
    assert "broken image" in capsys.readouterr().err
    assert list((tmp_path / "out" / "runs").iterdir()) == []
    assert bench("--method", "fp32", data=str(copy)) == 0
    found = records(tmp_path)["Full precision 32/32"]
    assert found["metrics"]["images"] == 14 and found["metrics"]["skipped"] == 1
    assert found["data"]["skipped"] == ["val/n01440764/1.JPEG"]
    assert "skipped 1 broken image files: val/n01440764/1.JPEG" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "replaced", "message"),
    [
        (["--task", "imagnet"], {}, "unknown task 'imagnet': did you mean 'imagenet'?"),
        (["--method", "toi"], {}, "unknown method 'toi': did you mean 'toy'?"),
        (["--method", "toy[stps=3]"], {}, "did you mean 'steps'?"),
        (["--set", "bits:hed=8"], {}, "bits:hed=8 names no site of this model"),
        (["--method", "toy[bits:head=8,bits:first_last=6]"], {}, "both name head"),
        (["--set", "bits:head=99"], {}, "bits:head=99: expected a number from 2 to 8"),
        (["--set", "stps=3"], {}, "unknown setting 'stps': did you mean 'steps'?"),
        ([], {"model": "deit_tny"}, "unknown model 'deit_tny': did you mean 'deit_tiny'"),
        ([], {"model": "resnet50"}, "no family knows the network"),
        ([], {"model": "deit_tiny_patch16_224.nope"}, "Invalid pretrained tag"),
        ([], {"bits": "1/4"}, "each from 2 to 8"),
        ([], {"bits": "4/9"}, "each from 2 to 8"),
        ([], {"bits": "4"}, "each from 2 to 8"),
        (["--seeds", "a"], {}, "--seeds a: expected whole numbers"),
        (["--preset", "fast"], {}, "preset 'fast'"),
        (["--limit", "0"], {}, "--limit 0"),
        (["--calib", "13"], {}, "there are only 12 images to calibrate on"),
        (["--calib", "x"], {}, "--calib x: expected a whole number"),
        ([], {"data": "missing"}, "'missing' does not exist: looked for 'missing/train' and 'missing/val'"),
        ([], {"data": "."}, "has no folder 'train': looked for"),
        ([], {"weights": "missing.pth"}, "does not exist"),
        ([], {"model": "deit_tiny,deit_small"}, "--weights belongs to one model, but 2 are chosen"),
        ([], {"model": "deit_tiny"}, "do not fit the model"),
        (["--device", "cuda:99"], {}, "is not there"),
        (["--device", "tpu"], {}, "expected auto, cpu, cuda"),
        (["--format", "pdf"], {}, "format 'pdf'"),
        (["--frmat", "md"], {}, "unrecognized arguments: --frmat"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_input_is_one_sentence_and_writes_nothing(bench, tmp_path, capsys, arguments, replaced, message):
    before = sorted(tmp_path.rglob("*"))
    assert bench(*arguments, **replaced) == 2
    err = capsys.readouterr().err
    assert err.startswith("aiqvit: ") and message in err and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_output_folder_that_cannot_be_written(bench, tmp_path, capsys, executed, dry):
    (tmp_path / "out").write_text("a file")
    assert bench("--method", "toy", *dry) == 2
    assert "cannot write" in capsys.readouterr().err and executed == []


def test_corrupt_record_is_named_and_run_again(bench, executed, tmp_path, capsys):
    assert bench("--method", "fp32") == 0
    (record,) = (tmp_path / "out" / "runs").iterdir()
    record.write_text(record.read_text()[:100])
    (record.parent / f".{record.name}-left-by-kill.tmp").write_text("{")
    assert bench("--method", "fp32") == 0
    assert len(executed) == 2 and str(record.name) in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    process = subprocess.Popen([sys.executable, "-m", "aiqvit.bench", "--list"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait() == 0 and errors == ""


def test_a_config_file_runs_and_its_unknown_keys_are_refused(bench, executed, tmp_path, capsys):
    (tmp_path / "sweep.toml").write_text('method = "toy"\nseeds = [0, 1]\nset = {steps = 7}\n')
    assert bench("--config", "sweep.toml") == 0
    assert executed == ["Full precision 32/32 0", "Toy [steps=7] 4/4 0", "Toy [steps=7] 4/4 1"]
    assert records(tmp_path)["Toy [steps=7] 4/4"]["spec"]["settings"]["steps"] == 7
    (tmp_path / "sweep.toml").write_text('mehtod = "toy"\n')
    assert bench("--config", "sweep.toml") == 2
    assert "'mehtod': did you mean 'method'?" in capsys.readouterr().err


def test_foreign_and_damaged_files_beside_the_records_do_no_harm(bench, executed, tmp_path, capsys):
    assert bench("--method", "toy") == 0
    folder = tmp_path / "out" / "runs"
    (folder / "package.json").write_text('{"name": "other"}')
    (folder / "half.json").write_text('{"id": "half", "sta')
    executed.clear()
    assert bench("--method", "toy") == 0 and executed == []
    capsys.readouterr()
    assert bench("--method", "toy", "--seeds", "0,1", "--dry-run") == 0  # reads all records for its estimate
    err = capsys.readouterr().err
    assert "skipping out/runs/package.json: it is not the record" in err and "skipping out/runs/half.json: " in err
    assert (folder / "package.json").exists() and (folder / "half.json").exists()


def test_a_full_disk_loses_no_record(bench, tmp_path, monkeypatch, capsys):
    real = os.replace

    def full(source, target):
        if "toy" in str(target) and "runs" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("aiqvit.harness.store.records.tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr("aiqvit.io.files.os.replace", full)
    assert bench("--method", "toy") == 2
    err = capsys.readouterr().err
    assert "No space left on device; the record is kept in" in err
    (kept,) = (tmp_path / "tmp").glob("aiqvit-unsaved-*/*")
    assert json.loads(kept.read_text())["status"] == "done"


def test_sigterm_is_an_interruption(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(METHODS.get("toy"), "quantize", lambda self, job: os.kill(os.getpid(), signal.SIGTERM))
    assert bench("--method", "toy") == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert list((tmp_path / "out" / "partial").iterdir()) == []
