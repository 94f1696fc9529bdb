"""The code hash sees what runs, not how it is written."""

import ast
import importlib
import sys

import pytest
from aiqvit.baselines.fp32 import FullPrecision

from aiqvit.harness.identity.sources import code_hash

BODY = '''"""Module."""
from {package}.helper import twice


class Mine:
    """Class."""

    def run(self):
        """Do it."""
        return twice(1)
'''


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Write a package of two modules and hash its class."""
    monkeypatch.syspath_prepend(tmp_path)

    def build(package: str, body: str = BODY, helper: str = "def twice(x):\n    return 2 * x\n") -> str:
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "helper.py").write_text(helper)
        (folder / "mine.py").write_text(body.format(package="pkg"))
        for name in [n for n in sys.modules if n.split(".")[0] == "pkg"]:
            del sys.modules[name]
        folder.rename(tmp_path / "pkg")
        importlib.invalidate_caches()
        found = code_hash(importlib.import_module("pkg.mine").Mine)
        (tmp_path / "pkg").rename(tmp_path / f"{package}-used")
        return found

    yield build
    for name in [n for n in sys.modules if n.split(".")[0] == "pkg"]:
        del sys.modules[name]


def test_comments_docstrings_and_formatting_do_not_matter(make):
    plain = make("a")
    restyled = BODY.replace('"""Do it."""', '"""Do it well."""  # yes').replace("twice(1)", "twice( 1 )")
    assert make("b", restyled) == plain
    assert make("c", BODY.replace("twice(1)", "twice(2)")) != plain
    assert make("d", helper="def twice(x):\n    return x + x\n") != plain  # what it imports counts too


def test_full_precision_does_not_depend_on_the_engine():
    assert len(code_hash(FullPrecision)) == 12


def test_the_shared_engine_and_the_task_count(monkeypatch):
    from aiqvit.tasks.imagenet import ImageNet

    from aiqvit.harness.identity import sources
    from aiqvit.method import AIQViT

    real = sources._parse
    before = code_hash(AIQViT), code_hash(AIQViT, ImageNet), code_hash(FullPrecision, ImageNet)
    assert len(set(before)) == 3

    def changed(module):
        def parse(name, cls):
            tree = real(name, cls)
            return ast.parse("changed = True") if name == module else tree
        monkeypatch.setattr(sources, "_parse", parse)
        return code_hash(AIQViT), code_hash(AIQViT, ImageNet), code_hash(FullPrecision, ImageNet)

    for module, expected in (("aiqvit.recon.loop", (True, True, False)), ("aiqvit.quant.formats", (True, True, False)),
                             ("aiqvit.tasks.images", (False, True, True)),
                             ("aiqvit.report.tables", (False, False, False))):
        assert tuple(a != b for a, b in zip(before, changed(module), strict=True)) == expected, module
