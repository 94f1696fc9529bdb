"""The network and the family of docs/add-a-family.md, installed as a package of somebody else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aiqvit.harness.launch.config import tomllib

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "add-a-family.md").read_text()
NETWORK, FAMILY, LOOK = re.findall(r"```python\n(.*?)```", TEXT, re.S)
(PROJECT,) = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
PROOF = """
import torch
from smallnet import SmallNet
from tests.families import networks, test_families
networks.NETWORKS["smallnet"] = SmallNet
proofs = [value for name, value in vars(test_families).items() if name.startswith("test_")]
with torch.no_grad():
    for proof in proofs:
        proof("smallnet")
print(len(proofs), "proofs")
"""


@pytest.fixture
def python(tmp_path):
    """Runs Python source where the network is installed and, if asked for, its family."""

    def run(source: str, *, family: bool = True) -> subprocess.CompletedProcess:
        (tmp_path / "smallnet.py").write_text(NETWORK)
        if family:
            (tmp_path / "smallnet_family.py").write_text(FAMILY)
            info = tmp_path / "smallnet-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: smallnet\nVersion: 1.0\n")
            points = tomllib.loads(PROJECT)["project"]["entry-points"]["aiqvit.families"]
            lines = [f"{name} = {target}\n" for name, target in points.items()]
            (info / "entry_points.txt").write_text("".join(["[aiqvit.families]\n", *lines]))
        paths = os.pathsep.join([str(tmp_path), str(ROOT), *filter(None, sys.path)])
        return subprocess.run([sys.executable, "-c", source], cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths},
                              text=True, capture_output=True)

    return run


def test_the_family_reaches_all_of_the_network(python):
    done = python(LOOK)
    assert done.stdout.startswith("coverage 100.00% of "), done.stderr
    assert "MISSED" not in done.stdout


def test_its_anatomy_is_true(python):
    done = python(PROOF)
    assert re.fullmatch(r"\d+ proofs\n", done.stdout), done.stderr


def test_without_its_family_it_is_refused(python):
    done = python(LOOK, family=False)
    assert "in full precision, the first in blocks.0.attend (smallnet.SharedKeys)" in done.stderr


def test_the_family_is_one_short_file():
    assert len(FAMILY.splitlines()) <= 50
