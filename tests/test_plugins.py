"""Whatever is wrong with another package costs its own rows and one line, never another command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aiqvit import plugins
from aiqvit.families import family
from aiqvit.harness.identity.sources import code_hash
from aiqvit.harness.launch.options import choose_methods, grid_methods
from aiqvit.interfaces import Method, Task, UserError
from aiqvit.registry import METHODS, Registry
from tests.broken import GOOD, POINTS, SOURCES, broken, method
from tests.plugins import install

BUILT_IN = METHODS.names()  # read before anything broken is there
SILENT = ("no section", "another family")  # what declares no method or task


@pytest.fixture
def forget(monkeypatch):
    """Forget what was found, said and changed, before and after."""
    import importlib.metadata as metadata

    monkeypatch.setattr(metadata.Distribution, "entry_points", metadata.Distribution.entry_points)

    def clear() -> None:
        for cached in (plugins.survey, plugins.say, plugins._hide_unreadable):
            cached.cache_clear()
        for module in ("third", "fourth"):
            sys.modules.pop(module, None)

    clear()
    yield
    clear()


@pytest.fixture
def registries(forget, tmp_path, monkeypatch):
    """Methods and tasks as a new process with these broken packages sees them."""
    monkeypatch.syspath_prepend(tmp_path)

    def new() -> tuple[Registry[Method], Registry[Task]]:
        methods = Registry("method", Method, "aiqvit.baselines:METHODS", "aiqvit.methods")
        tasks = Registry("task", Task, "aiqvit.tasks:TASKS", "aiqvit.tasks")
        for name in ("aiqvit.harness.launch.options.METHODS", "aiqvit.catalogue.METHODS", "aiqvit.listing.METHODS"):
            monkeypatch.setattr(name, methods)
        monkeypatch.setattr("aiqvit.listing.TASKS", tasks)
        return methods, tasks

    return new


@pytest.mark.parametrize("what", [*SOURCES, *POINTS])
def test_one_line_and_the_others_go_on(what, registries, tmp_path, capsys):
    from aiqvit import listing
    from aiqvit.catalogue import Registered

    broken(tmp_path, what)
    methods, tasks = registries()
    names = [choice.name for choice in choose_methods("all")]
    everyday = [name for name in BUILT_IN if not METHODS.get(name).only_in_grids]
    assert [n for n in names if n != "third"] == everyday and ("third" not in names or what in POINTS)
    assert grid_methods("table6").startswith("aiqvit[rank=20]")
    assert [choice.name for choice in choose_methods("minmax")] == ["minmax"]
    assert methods.get("minmax").__module__ == "aiqvit.baselines.minmax" and "coco" in tasks.usable("all")
    assert list(Registered().methods)[: len(BUILT_IN)] == BUILT_IN
    assert listing.show() == 0
    out, err = capsys.readouterr()
    assert "minmax: MinMax" in out and (what in POINTS or "third" not in out)
    assert err.count("\n") == (what not in SILENT) and err.isascii() and "\x1b" not in err and len(err) < 600
    assert what in SILENT or "package 'third'" in err


@pytest.mark.parametrize("what", SOURCES)
def test_the_broken_one_by_itself_is_the_reason(what, registries, tmp_path):
    broken(tmp_path, what)
    registries()
    for expression in ("third", "th*", "minmax,third"):
        with pytest.raises(UserError, match="method 'third' of package 'third' cannot be used: "):
            choose_methods(expression)


def test_a_taken_name_has_both_owners_and_the_first_is_kept(registries, tmp_path, capsys):
    broken(tmp_path, "taken")
    broken(tmp_path, "taken task", "fourth")
    methods, tasks = registries()
    assert methods.get("minmax").title == "MinMax" and tasks.names().count("coco") == 1
    assert capsys.readouterr().err == (
        "aiqvit: method 'minmax' is registered twice: aiqvit.baselines.minmax:MinMax (built in) and third:X (package "
        "'third'); the first is kept\n"
        "aiqvit: task 'coco' is registered twice: aiqvit.tasks.coco:Coco (built in) and fourth:X (package 'fourth'); "
        "the first is kept\n")


def test_two_broken_ones_are_two_lines_said_once(registries, tmp_path, capsys):
    broken(tmp_path, "syntax")
    broken(tmp_path, "exits", "fourth")
    methods, _ = registries()
    assert methods.usable("all") == methods.usable("all") == BUILT_IN
    assert capsys.readouterr().err.count("\n") == 2


def test_an_interrupt_stays_one(registries, tmp_path):
    install(tmp_path, "third", "raise KeyboardInterrupt\n", {"third": "third:X"})
    with pytest.raises(KeyboardInterrupt):
        registries()[0].usable("all")


def test_what_a_good_one_prints_is_one_line_and_later_goes_where_it_should(registries, tmp_path, capsys):
    noise = "import sys\nprint('hello\\x1b[2J\\nworld')\nsys.stderr.write('old')\nkept = sys.stderr\n"
    install(tmp_path, "third", noise + GOOD, {"third": "third:X"})
    assert registries()[0].get("third").title == "Third"
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "printed while it was imported: hello\\x1b[2J (and " in err
    sys.modules["third"].kept.write("later\n")
    assert capsys.readouterr().err == "later\n"


def test_the_current_folder_and_the_streams_stay(registries, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    install(tmp_path, "third", f"import os, sys\nos.chdir('/')\nsys.stdout.close()\n{GOOD}", {"third": "third:X"})
    assert registries()[0].get("third").title and os.getcwd() == str(tmp_path)
    print("still here")
    assert capsys.readouterr().out == "still here\n"


def test_a_grid_of_a_taken_name_is_left_out(registries, tmp_path, capsys):
    install(tmp_path, "third", method('title = "T"\ngrids = {"table6": ("images=3",)}'), {"third": "third:X"})
    registries()
    assert grid_methods("table6").startswith("aiqvit[rank=20]")
    assert "the grid 'table6' of the method 'third' is left out" in capsys.readouterr().err


def test_a_family_that_is_broken_or_taken_is_left_out(forget, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "third", "raise SystemExit\n", {})
    (tmp_path / "third-1.0.dist-info" / "entry_points.txt").write_text(
        "[aiqvit.families]\ntimm.models.beit = third:X\nthird.nets = third:X\n")
    for cached in (family._table, family._family):
        cached.cache_clear()
    assert family._family("third.nets") is None and family._family("timm.models.beit") is not None
    err = capsys.readouterr().err
    assert err.count("\n") == 2 and "'timm.models.beit' has aiqvit.families.timm_beit:FAMILY" in err
    for cached in (family._table, family._family):
        cached.cache_clear()


@pytest.mark.parametrize("what", ["gone", "bytes", "package"])
def test_a_source_that_cannot_be_read_has_no_hash_and_no_traceback(what, registries, tmp_path):
    more = "import third.inner.deep\n" if what == "package" else ""
    install(tmp_path, "third", GOOD + (f"if False:\n    {more}" if more else ""), {"third": "third:X"})
    cls = registries()[0].get("third")
    if what == "gone":
        (tmp_path / "third.py").unlink()
    elif what == "bytes":
        (tmp_path / "third.py").write_bytes(b"\xff\xfe\x00")
    assert len(code_hash(cls)) in (0, 12)


PLAN = ["--data", "mini", "--model", "mini_vit", "--bits", "4/4", "--preset", "smoke", "--threads", "1", "--dry-run"]


@pytest.mark.parametrize(("what", "arguments"), [("exits", ["--list"]), ("binary", [*PLAN, "--method", "minmax"])],
                         ids=["exits", "binary"])
def test_commands_in_a_process_of_their_own(what, arguments, tmp_path):
    broken(tmp_path, what)
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-m", "aiqvit.bench", *arguments], cwd=tmp_path, text=True,
                          env=os.environ | {"PYTHONPATH": paths}, capture_output=True)
    assert done.returncode == 0 and done.stderr.count("\n") == 1 and "package 'third'" in done.stderr
