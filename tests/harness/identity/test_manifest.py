"""Where and with what."""

import subprocess
import sys

import torch

from aiqvit.harness.identity.manifest import git_state, manifest


def test_manifest_names_versions_and_hardware():
    found = manifest("cpu")
    assert found["packages"]["torch"] == torch.__version__.split("+")[0] or found["packages"]["torch"]
    assert found["numerics"].keys() == {"torch", "cpu", "threads"} and found["numerics"]["cpu"]
    assert {"aiqvit", "timm", "numpy"} <= found["packages"].keys()
    assert found["cores"] >= 1 and found["threads"] >= 1 and found["started"].endswith("+00:00")


def test_git_state_is_that_of_the_package(tmp_path, monkeypatch):
    here = git_state()
    monkeypatch.chdir(tmp_path)
    assert git_state() == here


def test_peak_memory_sees_an_allocation():
    """In a process of its own: one that has freed much already gives what it kept."""
    source = ("import torch; from aiqvit.harness.run.memory import peak, reset_peak; reset_peak('cpu'); "
              "before = peak('cpu')['rss']; block = torch.ones(64, 2**18); print(peak('cpu')['rss'] - before)")
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert 32 <= float(done.stdout) < 256  # 64 MiB
