"""Ray gives the records of local runs, also when a worker is killed. Skips without Ray, but for the refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from aiqvit.bench import main
from aiqvit.harness.launch import ray as cluster
from aiqvit.harness.launch.request import Request
from aiqvit.harness.run import progress
from aiqvit.interfaces import UserError
from tests.conftest import MODEL
from tests.plugins import install

FRAGILE = '''
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from aiqvit.baselines.isvit import ISViT


@dataclass(frozen=True)
class Fragile(ISViT):
    """Its process is killed at the third unit, the first time that it is run."""

    title = "Fragile"

    def train(self, data, *rest):
        flag = Path(os.environ["FRAGILE"])
        if data.name == "blocks.1" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train(data, *rest)
'''


def contents(folder: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in folder.glob("runs/*.json")]
    for record in found:
        for entry in record["log"]:
            entry.pop("seconds", None)
            entry.pop("peak_mib", None)
    return {r["id"]: {key: r[key] for key in ("status", "spec", "metrics", "fp32", "log", "scheme")} for r in found}


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an optional extra")
def test_the_same_records_as_locally_though_a_worker_is_killed(imagenet, weights, tmp_path):
    plugins, flag = tmp_path / "plugins", tmp_path / "killed"
    plugins.mkdir()
    install(plugins, "fragile", FRAGILE, {"fragile": "fragile:Fragile"})
    paths = os.pathsep.join([str(plugins), *filter(None, sys.path)])
    environment = os.environ | {"FRAGILE": str(flag), "PYTHONPATH": paths}

    def bench(out: str, *more: str) -> None:
        flags = ["--data", str(imagenet), "--weights", str(weights), "--model", MODEL, "--method", "repqvit,fragile",
                 "--bits", "4/4", "--preset", "smoke", "--threads", "1", "--out", out, *more]
        done = subprocess.run([sys.executable, "-m", "aiqvit.bench", *flags], cwd=tmp_path, env=environment,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    bench("ray", "--launcher", "ray")
    assert flag.exists()
    bench("local")
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert len(contents(tmp_path / "ray")) == 3 and not list((tmp_path / "ray" / "partial").iterdir())


def test_without_ray_one_sentence_says_how_to_get_it(imagenet, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    code = main(["--data", str(imagenet), "--weights", str(weights), "--model", MODEL, "--method", "fp32",
                 "--out", str(tmp_path), "--threads", "1", "--launcher", "ray"])
    assert code == 2 and "pip install 'aiqvit[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ("data", "calibration", "weights", "code"))
def test_a_machine_that_would_compute_something_else_is_refused(wrong, imagenet, weights, tmp_path, monkeypatch):
    from dataclasses import replace

    from aiqvit.harness.launch.plan import plan
    from aiqvit.harness.store.records import Store

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(progress._shown, "progress", True)  # a worker shows none; put back for the other tests
    request = Request(data=str(imagenet), weights=str(weights), model=MODEL, method="fp32", threads=1, device="cpu")
    item = plan(request, "imagenet").runs[0]
    executor = cluster._executor(request, "imagenet", tmp_path, "cpu")
    cluster._check(item, executor)
    other = replace(item, source="other") if wrong == "code" else replace(
        item, spec=replace(item.spec, **{wrong: "other"}))
    with pytest.raises(UserError, match=f"its {wrong.replace('calibration', 'data')} differ"):
        cluster._check(other, executor)
    said = cluster._run(request, "imagenet", Store(tmp_path), str(tmp_path), other, None, False)
    assert said.startswith("machine ") and not (tmp_path / "runs").exists()
    record, fresh = cluster._run(request, "imagenet", Store(tmp_path), str(tmp_path), item, None, False)
    assert fresh and record["status"] == "done" and record["spec"]["data"] == item.spec.data


@pytest.mark.parametrize(("changed", "message"), [
    ({"launcher": "slurm"}, "expected local or ray"),
    ({"gpus_per_run": 1.0}, "belong to --launcher ray"),
    ({"ray_address": "auto"}, "belong to --launcher ray"),
    ({"launcher": "ray", "workers": 2}, "--workers belongs to --launcher local"),
    ({"launcher": "ray", "gpus_per_run": -1.0}, "expected a number from 0"),
    ({"launcher": "ray", "gpus_per_run": 0.0, "device": "cuda"}, "needs a GPU"),
], ids=str)
def test_flags_that_do_not_fit_together(changed, message):
    with pytest.raises(UserError, match=message):
        Request(**changed).check()


def test_gpus_of_a_cluster_need_not_be_here():
    assert Request(launcher="ray", gpus_per_run=0.5).place() == "cuda:0"
    assert Request(launcher="ray", gpus_per_run=0.0).place() == "cpu"


@pytest.mark.parametrize("address", ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"))
def test_a_cluster_that_is_not_there_is_told_at_once(address):
    with pytest.raises(UserError, match=f"no Ray cluster at '{address}': "):
        cluster._reach(address)
