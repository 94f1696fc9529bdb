"""Content decides identity."""

import re
from dataclasses import replace

import pytest

from aiqvit import ENGINE_VERSION
from aiqvit.harness.identity.spec import RunSpec, version_text
from aiqvit.interfaces import Method, Task

SPEC = RunSpec(
    task="imagenet-mini",
    model="mini_vit",
    weights="w",
    data="d",
    train="t",
    calibration="c",
    method="aiqvit",
    settings={"images": 32, "ranks": (1, 2)},
    version="method 1, task 1, engine 1",
    preset="quick",
    bits="4/4",
    seed=0,
    limit=None,
    device="cpu",
    threads=1,
)


def test_id_is_readable_and_stable():
    assert re.fullmatch(r"imagenet-mini\.mini_vit\.aiqvit\.w4a4\.s0-[0-9a-f]{12}", SPEC.id)
    assert SPEC.id == replace(SPEC, settings={"ranks": [1, 2], "images": 32}).id


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "x"},
        {"data": "x"},
        {"settings": {"images": 33, "ranks": (1, 2)}},
        {"train": "x"},
        {"calibration": "x"},
        {"version": "method 2, task 1, engine 1"},
        {"preset": "paper"},
        {"bits": "3/3"},
        {"seed": 1},
        {"limit": 10},
        {"device": "cuda"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_changes_numbers_changes_the_id(change):
    assert replace(SPEC, **change).id != SPEC.id


def test_id_is_a_file_name():
    assert "/" not in replace(SPEC, model="hub:a/b c").id


def test_versions_are_those_of_the_classes_and_full_precision_needs_no_engine():
    method, task = type("M", (Method,), {"version": 3}), type("T", (Task,), {"version": 2})
    assert version_text(method, task) == f"method 3, task 2, engine {ENGINE_VERSION}"
    assert version_text(method, task, reference=True) == "method 3, task 2"
