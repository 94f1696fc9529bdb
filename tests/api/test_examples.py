"""The examples in the docstrings of the Python API, in the order in which somebody would try them."""

from __future__ import annotations

import doctest
from importlib.util import find_spec

import pytest
import timm
import torch

import aiqvit

ORDER = ("quantize", "save", "load", "card", "coverage", "evaluate", "compare", "export", "list_methods", "list_tasks")
NEEDS = {"export": "onnxruntime"}


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What examples share: the functions, torch, a model, its quantized form `q`, a folder to write to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("examples"))
        torch.manual_seed(0)
        yield {"aiqvit": aiqvit, "torch": torch, "timm": timm}


def examples(name: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(getattr(aiqvit, name).__doc__ or "")


def available(name: str) -> bool:
    return find_spec(f"aiqvit.api.{aiqvit._HOMES[name]}") is not None


def test_all_names_are_here():
    assert sorted(ORDER) == sorted(aiqvit.__all__)


@pytest.mark.parametrize("name", ORDER)
def test_the_example_of(name, names):
    pytest.importorskip(NEEDS.get(name, "torch"))
    if not available(name):
        pytest.skip(f"aiqvit.{name} is not there")
    names |= {other: getattr(aiqvit, other) for other in ORDER if available(other)}
    assert examples(name)
    test = doctest.DocTestParser().get_doctest(getattr(aiqvit, name).__doc__, names, name, None, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=said.append, clear_globs=False)
    names |= test.globs  # `q` and `model` for those that follow
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
