"""A wheel, installed into a fresh environment, works beside other people's files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from aiqvit.harness.launch.config import tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("aiqvit", "tasks", "baselines")
OLD = tuple(map(int, version("setuptools").split(".")[:2])) < (70, 1)
BENCH = ["--task", "imagenet", "--data", "mini", "--model", "mini_vit", "--method", "minmax", "--bits", "4/4",
         "--preset", "smoke", "--limit", "20", "--threads", "1", "--format", "md,csv"]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_sub_package_is_listed():
    folders = {"aiqvit": "aiqvit"} | {folder: name for name, folder in project()["package-dir"].items()}
    found = {".".join([name, *init.parent.relative_to(ROOT / folder).parts])
             for folder, name in folders.items() for init in (ROOT / folder).rglob("__init__.py")}
    assert found == set(project()["packages"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the sources, so that nothing is left in the checkout, and without a network."""
    if OLD:
        pytest.skip("building a wheel needs setuptools 70.1 or newer: pip install 'aiqvit[dev]'")
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--wheel-dir", str(folder), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_weights_page_and_published_numbers_are_inside(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder, name in (("aiqvit", "aiqvit"), ("tasks", "aiqvit/tasks"), ("baselines", "aiqvit/baselines")):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".safetensors", ".html", ".csv"):
                assert f"{name}/{path.relative_to(ROOT / folder).as_posix()}" in inside
    assert not any(name.split("/")[0] in ("tasks", "baselines", "tests") for name in inside)


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of a fresh environment: this one's packages, but our own from the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site = Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(folder)}))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("\n".join(seen))  # no .pth there is read, so no editable install is seen
    return folder / "bin" / "python"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where the commands are called, with what somebody else has there under our names."""
    (tmp_path / "tasks.py").write_text("raise SystemExit('the wrong tasks')\n")
    for name in ("tasks", "baselines", "aiqvit_something"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the wrong {name}')\n")
    (tmp_path / "aiqvit_something.py").write_text("raise SystemExit('the wrong module')\n")
    (tmp_path / "results" / "runs").mkdir(parents=True)
    (tmp_path / "results" / "notes.txt").write_text("mine")
    (tmp_path / "results" / "runs" / "package.json").write_text('{"name": "mine"}')
    return tmp_path


def test_commands_work_anywhere(python, folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}

    def call(module: str, *arguments: str) -> str:
        done = subprocess.run([str(python), "-m", module, *arguments], cwd=folder, env=environment, text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert str(python.parents[1]) in subprocess.run(
        [str(python), "-c", "import aiqvit; print(aiqvit.__file__)"], cwd=folder, env=environment, text=True,
        capture_output=True).stdout
    assert "| 4/4   | MinMax" in call("aiqvit.bench", *BENCH)
    assert "RepQ-ViT" in call("aiqvit.tables", "--table", "1", "--source", "paper")
    assert "report.html" in call("aiqvit.report")
    assert len(list((folder / "results" / "runs").glob("imagenet-mini*.json"))) == 2
    assert (folder / "results" / "report.html").stat().st_size > 1000
    assert {path: path.read_bytes() for path in before} == before
