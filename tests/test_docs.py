"""The worked example of docs/add-a-method.md, as a package of somebody else: it is listed, runs, and has its row."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aiqvit.bench import read
from aiqvit.command import to_request
from aiqvit.harness.launch.config import tomllib
from tests.conftest import MODEL
from tests.plugins import install

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(), re.S)


@pytest.fixture
def command(tmp_path):
    """The command where the example is installed as its pyproject.toml says."""
    (source,), (project,) = blocks("add-a-method.md", "python"), blocks("add-a-method.md", "toml")
    points = tomllib.loads(project)["project"]["entry-points"]["aiqvit.methods"]
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder, "learned_scales", source, points)
    paths = os.pathsep.join([str(folder), *filter(None, sys.path)])

    def call(*arguments: str) -> str:
        done = subprocess.run([sys.executable, "-m", "aiqvit.bench", *arguments], cwd=tmp_path, text=True,
                              env=os.environ | {"PYTHONPATH": paths}, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_the_example_is_one_short_file():
    (source,) = blocks("add-a-method.md", "python")
    (cls,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert cls.end_lineno - cls.decorator_list[0].lineno + 1 <= 32


def test_another_package_s_method_is_listed_and_has_a_row_in_the_table(command, imagenet, weights):
    listed = command("--list")
    assert "learned_scales: Learned scales\n      images=256 " in listed and " rate=0.02 " in listed
    out = command("--data", str(imagenet), "--weights", str(weights), "--model", MODEL, "--bits", "4/4", "--threads",
                  "1", "--preset", "smoke", "--method", "minmax,learned_scales[rate=0.05]", "--units", "--format", "md")
    assert re.search(r"^\| 4/4 +\| Learned scales \[rate=0.05\] +\| +[\d.]+ \(", out, re.M), out
    assert f"{MODEL} Learned scales [rate=0.05] 4/4 seed 0, by unit:" in out


def test_flags_and_files_in_the_docs_are_real(tmp_path):
    (sweep,) = blocks("fleets.md", "toml")
    (tmp_path / "sweep.toml").write_text(sweep)
    assert read(["--config", str(tmp_path / "sweep.toml")]).method == "minmax,aiqvit,aiqvit[curriculum=off]"
    text = "".join(blocks("fleets.md", "sh") + blocks("add-a-method.md", "sh")).replace("\\\n", " ")
    commands = re.findall(r"aiqvit\.bench ([^#\n]*)", text)
    assert len(commands) == 8
    for command in commands:
        read(command.replace("sweep.toml", str(tmp_path / "sweep.toml")).split())


def test_flags_of_the_page_on_pictures_are_real(tmp_path):
    (example,) = blocks("tasks/imagenet.md", "toml")
    (tmp_path / "a.toml").write_text(example)
    args = read(["--config", str(tmp_path / "a.toml")])
    assert (args.calib_data, args.transform) == ("pictures", "mean=0.5,0.5,0.5,std=0.5,crop=1")
    commands = re.findall(r"aiqvit\.bench ([^#\n]*)", "".join(blocks("tasks/imagenet.md", "sh")))
    assert len(commands) == 4 and all(to_request(read(command.replace(" FILE", " README.md").split()))
                                      for command in commands)
