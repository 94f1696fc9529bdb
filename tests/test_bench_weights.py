"""What the command line says of weights, terminals and foreign records."""

import argparse
import io
import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from aiqvit.registry import METHODS
from aiqvit.report.labels import label
from tests.conftest import MODEL

pytestmark = pytest.mark.usefixtures("methods")


def records(tmp_path):
    found = [json.loads(p.read_text()) for p in (tmp_path / "out" / "runs").glob("*.json")]
    return {f"{label(r, METHODS.get(r['spec']['method']).title)} {r['spec']['bits']}": r for r in found}


def test_weights_that_do_not_fit_name_the_keys(bench, weights, tmp_path, capsys):
    state = load_file(weights)
    state["extra.weight"] = state.pop("head.bias")
    state["norm.weight"] = state["norm.weight"][:10].clone()
    save_file(state, tmp_path / "bad.safetensors")
    assert bench("--method", "fp32", weights=str(tmp_path / "bad.safetensors")) == 2
    err = capsys.readouterr().err
    assert "1 missing (head.bias); 1 unexpected (extra.weight); 1 mis-shaped (norm.weight (10,)" in err


def test_weights_that_were_chosen_are_told_and_recorded(bench, weights, tmp_path, capsys):
    state = load_file(weights)
    raw = {key: value * 0.5 for key, value in state.items()}
    torch.save({"state_dict": raw, "state_dict_ema": {f"module.{k}": v for k, v in state.items()},
                "args": argparse.Namespace(lr=1.0)}, tmp_path / "last.pth")
    assert bench("--method", "fp32", weights=str(tmp_path / "last.pth")) == 0
    out = capsys.readouterr().out
    told = ["weights taken from the key 'state_dict_ema', not 'state_dict' beside it",
            "prefix 'module.' removed from the keys"]
    assert all(f"imagenet: {MODEL}: {line}\n" in out for line in told)
    (found,) = records(tmp_path).values()
    assert found["manifest"]["weights"] == told
    assert bench("--method", "fp32") == 0  # the same weights by their content
    assert "done before" in capsys.readouterr().out


def test_weights_that_are_not_finite_end_it_at_once(bench, weights, tmp_path, executed, capsys):
    state = load_file(weights)
    state["blocks.1.mlp.fc1.weight"][3, 4] = float("inf")
    save_file(state, tmp_path / "bad.safetensors")
    assert bench("--method", "toy", weights=str(tmp_path / "bad.safetensors")) == 2
    assert "1 of" in (text := capsys.readouterr().err) and "values of blocks.1.mlp.fc1.weight" in text
    assert executed == []


def test_tables_are_written_whatever_the_terminal_can_show(bench, tmp_path, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert bench("--method", "toy", "--seeds", "0,1") == 0
    sys.stdout.flush()
    assert "+-" in raw.getvalue().decode("ascii")
    assert "±" in (tmp_path / "out" / "tables" / "imagenet-quick.md").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", None)
    shutil.rmtree(tmp_path / "out")
    assert bench("--method", "toy") == 0
    assert (tmp_path / "out" / "tables" / "imagenet-quick.md").is_file()


def test_a_foreign_record_in_the_place_of_a_run_is_named_and_run_again(bench, executed, tmp_path, capsys):
    assert bench("--method", "toy") == 0
    for path in (tmp_path / "out" / "runs").iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": {"top1": "n/a"}}))
    executed.clear()
    assert bench("--method", "toy") == 0
    assert len(executed) == 2 and "metrics.top1" in capsys.readouterr().err
