"""Cells, captions and escaping."""

import shutil
import subprocess

import pytest

from aiqvit.harness.identity.spec import Run, RunSpec
from aiqvit.interfaces import Method, UserError
from aiqvit.report import latex, tables
from aiqvit.report.markup import comma_separated, markdown
from aiqvit.report.writers import write


class Fake(Method):
    title = "Fake_1"
    note = "50% & more"
    images = 8


def make(method, model, top1, bits="4/4", seed=0, status="done", title=None, made_by="s", coverage=None, **settings):
    """A run, and its record made by another source than the run's when `made_by` is not "s"; all settings differ."""
    spec = RunSpec("imagenet", model, "w", "d", "t", "c", method, settings, "v", "quick", bits, seed, None, "cpu", 1)
    fp32 = {"top1": 80.0, "top5": 95.0}
    record = {
        "id": spec.id,
        "status": status,
        "spec": {"bits": bits, "model": model, "seed": seed},
        "metrics": {"top1": top1, "top5": top1, "images": 10} if status == "done" else {},
        "fp32": fp32,
        "times": {"quantize": 90.0},
        "calibration_images": 32,
        "data": {"val": 10, "skipped": []},
        "manifest": {"packages": {"torch": "2"}, "source": made_by},
        "coverage": coverage,
        "error": {"type": "Diverged", "message": "blocks.0: nan"},
    }
    kind = type("Titled", (Fake,), {"title": title or method})
    return Run(spec, kind(), dict.fromkeys(settings, "its own"), source="s"), record


def table(*pairs):
    runs = [run for run, _ in pairs]
    return tables.build("imagenet", ("top1", "top5"), "quick", runs, {r["id"]: r for _, r in pairs})


def texts(found):
    """The rows of a table without what is bold."""
    return [[*row.heads, *(cell.text for cell in row.cells)] for row in found.rows]


@pytest.fixture
def mixed():
    return table(
        make("fp32", "a", 80.0, "32/32", title="Full precision"),
        make("fake", "a", 70.0, seed=0),
        make("fake", "a", 72.0, seed=1),
        make("other", "a", 0.0, status="failed"),
        make("fp32", "b_x", 80.0, "32/32", title="Full precision"),
        make("fake", "b_x", 81.0),
    )


def test_cells(mixed):
    assert mixed.header == ["W/A", "Method", "a top1", "b_x top1", "Minutes"]
    assert texts(mixed) == [
        ["32/32", "Full precision", "80.00", "80.00", "—"],
        ["4/4", "fake", "71.00 ± 1.41 (n=2, -9.00)", "81.00 (+1.00)", "1.5"],
        ["4/4", "other", "failed", "—", "—"],
    ]
    assert "failed: a, other, 4/4, seed 0: blocks.0: nan" in mixed.notes
    for part in ("10 of 10 validation images", "torch 2", "seeds 0, 1", "calibration images: fake 32"):
        assert part in mixed.caption


def test_markdown_lines_up(mixed):
    lines = [line for line in markdown(mixed).splitlines() if line.startswith("|")]
    assert len(lines) == 5 and len({len(line) for line in lines}) == 1


def test_csv_has_every_number(mixed):
    lines = comma_separated(mixed).splitlines()
    assert lines[0].startswith("bits,method,model,runs,failed,top1,top1_std,top1_drop,top5")
    assert len(lines) == 6


def test_latex_is_escaped(mixed):
    text = latex.snippet(mixed)
    assert r"b\_x top1" in text and r"$\pm$" in text and r"\toprule" in text and r"50\% \& more" in text
    assert "(n=2, $-$9.00)" in text


def test_latex_compiles(mixed, tmp_path):
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex")
    body = latex.snippet(mixed)
    packages = ",".join(latex.PACKAGES)
    page = rf"\documentclass{{article}}\usepackage{{{packages}}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "t.tex").write_text(page.replace(r"\begin{document}", "\\begin{document}\n"))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_unknown_format(mixed):
    with pytest.raises(UserError, match="expected one of md, csv, tex, html"):
        write(mixed, "pdf")


def test_a_task_with_two_headlines_has_two_columns_a_model():
    run, record = make("fake", "a", 70.0)
    found = tables.build("coco", ("top5", "top1"), "quick", [run], {record["id"]: record}, headlines=2)
    assert found.header == ["W/A", "Method", "a top5", "a top1", "Minutes"]
    assert texts(found) == [["4/4", "fake", "70.00 (-25.00)", "70.00 (-10.00)", "1.5"]]
    assert "top5 and top1 in percent" in found.caption


def test_one_run_under_two_names_is_one_run():
    run, record = make("fake", "a", 70.0)
    (row,) = texts(tables.build("imagenet", ("top1",), "quick", [run, run, run], {record["id"]: record}))
    assert row[2] == "70.00 (-10.00)"
