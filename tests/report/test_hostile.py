"""Text in records never becomes a path, markup or a formula, and no record that a store takes ends a report."""

import contextlib
import copy
import csv
import io
import json
import random
import re
from itertools import islice

import pytest

from aiqvit import figures, tables
from aiqvit.catalogue import Registered
from aiqvit.harness.identity.spec import run_id
from aiqvit.harness.store.records import plain, sealed
from aiqvit.harness.store.trust import revived
from aiqvit.io.names import file_name
from aiqvit.report import latex, page, paper, plots, records, units
from aiqvit.report.__main__ import main as report
from aiqvit.report.records import About
from aiqvit.report.writers import FORMATS
from aiqvit.report.writers import write as written_as
from tests.report.make_records import record, write
from tests.report.test_tables import make, table

EVIL = ("../../../ESCAPED/x", "/etc/x", "quick}\\immediate\\write18{id}\\input{/etc/passwd}%", "a$b$", "..", "",
        "AIQViT $\\frac{$ x", "a | b\nc", "<script>alert(1)</script>", "![x](http://x)", "=cmd()", "\x1b[31mred\x00",
        "\u202eabc", "x" * 900, "-- ^a_b", "con\ttrol\r", "{{ 7 * 7 }}", "`code`", "\u2028")
LOG = [{"unit": f"blocks.{i}", "loss_before": 1.0, "loss_after": 0.5, "kept": True, "b1": [0.0], "b2": [0.5],
        "ranks": {"qkv": [3, [0.5]]}} for i in range(3)]
COVERAGE = {"quantized": 0.7, "declared": 0.0, "missed": 0.3, "first": "blocks.0"}
KNOWN = Registered()


def evil(text):
    """Records of one part with the text wherever a record has text."""
    made = []
    for method, bits in (("fp32", "32/32"), ("aiqvit", "4/4"), (f"m{text}", "4/4"), ("minmax", "6/6")):
        one = record(method, "deit_tiny", {"top1": 50.0, f"k{text}": 1.0}, bits=bits, log=[
            {**entry, "unit": f"{entry['unit']}{text}", f"k{text}": text} for entry in LOG], coverage=COVERAGE,
            protocol=f"p{text}", quantizer=f"q{text}", preset=f"paper{text}", **{"inputs:transform": text})
        one["spec"]["model"] = f"deit{text}"
        one["data"]["notes"] = one["data"]["skipped"] = [text]
        one["manifest"] |= {"device": text, "python": text, "packages": {f"torch{text}": text}}
        made.append({**one, "id": f"run{len(made)}-abc{len(made)}"})
    made[-1] |= {"status": "failed", "metrics": {}, "error": dict.fromkeys(("type", "message", "traceback"), text)}
    return [derived(r) for r in made]


def derived(made):
    return records._derived(revived(json.loads(json.dumps(made))), KNOWN)


def hidden(text):
    return [c for c in text if c != "\n" and not c.isprintable()]


@pytest.mark.parametrize("text", EVIL, ids=ascii)
def test_text_is_escaped_in_every_output(text):
    names = []
    for part in records.parts(evil(text)):
        for number in (1, 5):
            made = paper.ours(number, part, {**KNOWN.methods, "minmax": About(f"t{text}", f"n{text}", f"f{text}")})
            names.append(made.name)
            written = [written_as(made, kind) for kind in ("tex", "md", "csv", "html")]
            assert not any(map(hidden, written))
            tex, md, text_of_cells, html = written
            assert not re.search(r"\\(immediate|write18|frac)|\\input\{/|(?<!\\)%(?! \\usepackage)", tex)
            assert f"\\label{{tab:{made.name}}}" in tex
            widths = {line.count("|") for line in md.splitlines() if line.startswith("|")}
            assert len(widths) == 1 and "](" not in md and "<script" not in md + html
            assert not any(re.match(r"[=@]", cell) for row in csv.reader(io.StringIO(text_of_cells)) for cell in row)
        for one in part.records:
            assert not hidden(units.markdown(one, one["label"]))
    assert all(file_name(name) == name and "/" not in name for name in names) and len(set(names)) == len(names)
    assert latex.document([text]).count("\\input") == 1 and "{/" not in latex.document([text])


def test_nothing_is_written_outside_the_folder(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = "/../../../ESCAPED/x$\\frac{$"
    made = [record(f"aiqvit{path}", f"m{path}", {"top1": 50.0}, log=LOG, task=f"imagenet-mini{path}", preset=f"p{path}",
                   protocol=path),
            record("aiqvit", "deit_tiny", {"top1": 50.0}, log=LOG, preset=f"p{path}", protocol=path)]
    folder, out = tmp_path / "r", tmp_path / "a" / "b" / "c" / "out"
    write(folder, *made)
    before = set(tmp_path.rglob("*"))
    assert tables.main([str(folder), "--out", str(out), "--format", "tex,md,csv,html"]) == 0
    assert figures.main([str(folder), "--out", str(out), "--figure", "bits,blocks", "--format", "svg"]) == 0
    assert report([str(folder), "--out", str(out / "page.html"), "--title", "\x1b[31m$x$</h1>"]) == 0
    added = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert added and all(path.parent == out for path in added)
    assert not hidden(capsys.readouterr().out)
    text = (out / "page.html").read_text(encoding="utf-8")
    assert not hidden(text) and text.count("<script>") == 1 and "default-src 'none'" in text


def test_parts_of_equal_names_are_files_of_their_own():
    made = [record("aiqvit", "m", {"top1": 1.0}, preset="paper-limit100"),
            record("aiqvit", "m", {"top1": 2.0}, preset="paper", limit=100),
            record("aiqvit", "m", {"top1": 3.0}, preset="Paper-limit100"),
            record("aiqvit", "m", {"top1": 4.0}, preset="paper", protocol="limit100")]
    names = [part.name.casefold() for part in records.parts(list(map(derived, made)))]
    assert len(set(names)) == 4 and all(name.startswith("imagenet-paper-limit100-") for name in names)


@pytest.mark.parametrize("text", EVIL, ids=ascii)
def test_benchs_own_table(text):
    made = table(make("m", "a", 70.0, title=f"t{text}"), make("n", f"b{text}", 1.0, status="failed", key=text))
    for kind in FORMATS:
        assert not hidden(written_as(made, kind))
    assert file_name(made.name) == made.name
    tex = written_as(made, "tex")
    assert not re.search(r"\\(immediate|write18|frac)|\\input", tex)
    rows = list(csv.reader(io.StringIO(written_as(made, "csv"))))
    assert not any(cell.startswith(("=", "@")) for row in rows for cell in row)
    assert len({line.count("|") for line in written_as(made, "md").splitlines() if line[:1] == "|"}) == 1


@pytest.mark.parametrize("text", ["m$\\nosuch$", "a\nb\x00\x1b[31m\u202e", "x" * 900], ids=ascii)
def test_figures_take_no_text_for_a_formula(text, tmp_path):
    pytest.importorskip("matplotlib")
    from aiqvit.report import panels

    for part in records.parts(evil(text)):
        for _, figure in plots.drawn(part, list(plots.FIGURES)):
            panels.rendered(figure, "png")
            assert max(figure.get_size_inches()) < 40
            shown = [axis.get_text() for ax in figure.axes for axis in (*ax.get_yticklabels(), *ax.get_xticklabels())]
            assert not any("$" in label or "\\mathdefault" in label for label in shown if text not in label)
    figure = panels.softmax_levels([0.1, 0.5], [("aiqvit", f"{text}\nerror", [0.1, 0.2])], text)
    assert panels.rendered(figure, "pdf")
    assert not any("mathdefault" in tick.get_text() for tick in figure.axes[1].get_xticklabels())


JUNK = (*EVIL, 0, -1, 1e308, 10**30, 10**400, 0.5, float("inf"), True, False, None, [], {}, [None], {"a": {"b": [1]}},
        [1, "a"], "nan", "4/4", "99/99", list(range(50)))
OPEN = ("log", "scheme", "manifest", "data", "coverage", "peak_mib", "defaults", "error", "spec", "metrics", "times")


def mutated(rng, made):
    """The record with some values at random places of those fields exchanged, left out or added."""
    made = copy.deepcopy(made)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = made[rng.choice([name for name in OPEN if made.get(name)])]
        while place and (inner := [v for v in (place.values() if isinstance(place, dict) else place)
                                   if isinstance(v, dict | list) and v]) and rng.random() < 0.7:
            place = rng.choice(inner)
        name = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        change = rng.random()
        if change < 0.2 and isinstance(place, dict):
            del place[name]
        elif change < 0.4 and isinstance(place, dict):
            place[rng.choice(EVIL)] = copy.deepcopy(rng.choice(JUNK))
        else:
            place[name] = copy.deepcopy(rng.choice(JUNK))
    return made


def taken(rng, base):
    """Mutated records that a store takes, each with the id that follows from its spec."""
    while True:
        made = mutated(rng, rng.choice(base))
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
            made["id"] = run_id(plain(made["spec"]))
            yield sealed(made)


def test_no_record_that_a_store_takes_ends_a_report():
    rng = random.Random(0)
    base = [record(method, "deit_tiny", {"top1": 50.0}, bits=bits, log=LOG, coverage=COVERAGE)
            for method, bits in (("fp32", "32/32"), ("aiqvit", "4/4"), ("minmax", "3/3"), ("other", "8/8"))]
    base.append(record("qdrop", "deit_tiny", {}, status="failed"))
    for _ in range(60):
        made = list(islice(taken(rng, base), 5))
        for part in records.parts(list(map(derived, made))):
            for number, beside in ((1, False), (1, True), (5, False)):
                shown = paper.ours(number, part, KNOWN.methods, beside)
                for kind in FORMATS:
                    assert not hidden(written_as(shown, kind))
            assert not any(hidden(units.markdown(one, one["label"])) for one in part.records)
    pytest.importorskip("matplotlib")
    few = list(map(derived, islice(taken(rng, base), 10)))
    assert page.render("t", records.parts(few), KNOWN.methods).count("<script>") == 1


@pytest.mark.parametrize("command", [tables.main, report])
def test_a_print_that_fails_costs_no_file(command, tmp_path, monkeypatch):
    folder, out = write(tmp_path / "r", record("aiqvit", "deit_tiny", {"top1": 1.0})), tmp_path / "out"
    for module in ("aiqvit.tables", "aiqvit.report.__main__"):
        monkeypatch.setattr(f"{module}.print", broken, raising=False)
    assert command([str(folder), "--out", str(out)]) == 1
    assert out.is_file() or any(out.glob("table1-*.md"))


def broken(*_, file=None, **__):
    if file is None:
        raise RuntimeError("no terminal")
