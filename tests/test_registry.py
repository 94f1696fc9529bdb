"""Names without imports, wildcards, nearest names, collisions, entry points."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from aiqvit import registry
from aiqvit.interfaces import Method, UserError
from aiqvit.plugins import Point
from aiqvit.registry import METHODS, TASKS, Registry


def fresh(table=None, **more):
    found = Registry("method", Method, **more)
    for name, target in (table or {}).items():
        found.register(name, target)
    return found


def test_built_in_names_in_display_order():
    assert METHODS.names() == ["fp32", "minmax", "brecq", "qdrop", "ptq4vit", "apqvit", "repqvit", "isvit", "erq",
                               "gptaq", "adalog", "aphqvit", "fimaq", "lsvit", "glfq", "blockwise", "aiqvit"]
    assert "imagenet" in TASKS.names()


def test_listing_and_help_import_no_torch():
    code = (
        "import sys; from aiqvit.registry import METHODS, TASKS; import aiqvit.bench as b; "
        "METHODS.names(), TASKS.match('*'), b.parser().format_help(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_registered_class_loads():
    assert all(issubclass(METHODS.get(name), Method) for name in ("fp32",))
    assert TASKS.get("imagenet").name == "imagenet"


def test_wildcards_and_aliases():
    found = fresh({"repqvit": "a:A", "fp32": "aiqvit.baselines.fp32:FullPrecision", "repq2": "a:B"})
    found.register("baseline", "a:C", aliases=["base"])
    assert found.match("rep*") == ["repqvit", "repq2"]
    assert found.match("all") == found.names() == ["repqvit", "fp32", "repq2", "baseline"]
    assert found.match("base") == ["baseline"]
    assert found.get("fp32").title == "Full precision"


@pytest.mark.parametrize(("typed", "hint"), [("repq", "did you mean 'repqvit'?"), ("zzz", "Available: fp32, repqvit")])
def test_unknown_name_gives_the_nearest(typed, hint):
    with pytest.raises(UserError, match="unknown method") as error:
        fresh({"fp32": "a:A", "repqvit": "a:B"}).match(typed)
    assert hint in str(error.value)


def test_collision_is_an_error_but_registering_again_is_not():
    found = fresh({"x": "a:A"})
    found.register("x", "a:A")
    with pytest.raises(UserError, match=r"twice: a:A \(this program\) and b:B \(this program\); the first is kept"):
        found.register("x", "b:B")
    with pytest.raises(UserError, match="already taken"):
        found.register("y", "b:Y", aliases=["x"])


def test_decorator_and_wrong_class():
    found = fresh()

    @found.register("mine")
    @dataclass(frozen=True)
    class Mine(Method):
        """A method."""

        title = "Mine"
        images: int = 1

    assert found.get("mine") is Mine
    found.register("text", "aiqvit.interfaces:UserError")
    with pytest.raises(UserError, match="not a subclass of Method"):
        found.get("text")
    found.register("gone", "no_such_module:X")
    with pytest.raises(UserError, match="cannot be imported"):
        found.get("gone")


def test_entry_points_of_other_packages(monkeypatch):
    point = Point("theirs", "aiqvit.baselines.fp32:FullPrecision", "package 'third'")
    monkeypatch.setattr(registry, "points", lambda group: [point] if group == "aiqvit.methods" else [])
    found = fresh(table=None, group="aiqvit.methods")
    assert found.names() == ["theirs"]
    assert found.get("theirs").title == "Full precision"
