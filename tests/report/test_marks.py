"""Records whose source has changed, or that are quantized in part, are marked in every table."""

import pytest

from aiqvit.report import marks
from aiqvit.report.latex import snippet
from aiqvit.tables import main
from tests.report.make_records import record, write
from tests.report.test_tables import make, table, texts

COVERAGE = {"quantized": 0.712, "declared": 0.0, "missed": 0.288, "first": "blocks.0.attn"}
NOTE = "‡ a: partial: 71.2 % of multiply-accumulates quantized, the first module left out is blocks.0.attn"


def test_bench_marks_the_row_and_says_why_once():
    shown = table(make("same", "a", 70.0), make("old", "a", 60.0, made_by="other"),
                  make("part", "a", 50.0, coverage=COVERAGE), make("whole", "a", 40.0, coverage={
                      **COVERAGE, "quantized": 0.995, "missed": 0.005}),
                  make("both", "a", 30.0, made_by="other", coverage=COVERAGE))
    assert [row[1] for row in texts(shown)] == ["same", "old†", "part‡", "whole", "both†‡"]
    assert shown.notes.count(marks.STALE_NOTE) == 1 and shown.notes.count(NOTE) == 1
    assert [row["marks"] for row in shown.numbers] == ["", "†", "‡", "", "†‡"]
    text = snippet(shown)
    assert r"old$\dagger$" in text and r"part$\ddagger$" in text


def test_nothing_is_marked_where_nothing_is_to_say():
    shown = table(make("same", "a", 70.0))
    assert not {"†", "‡"} & set("".join([*shown.notes, *texts(shown)[0]]))


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "r", record("fp32", "deit_tiny", {"top1": 72.0}),
                 record("repqvit", "deit_tiny", {"top1": 57.0}, source="0ld"),
                 record("minmax", "deit_tiny", {"top1": 20.0}, coverage=COVERAGE))


def test_paper_tables_mark_the_cell(folder, tmp_path):
    assert main([str(folder), "--table", "1", "--out", str(tmp_path), "--format", "md,csv,tex,html"]) == 0
    made = {path.suffix[1:]: path.read_text() for path in tmp_path.glob("table1-ours-imagenet-paper.*")}
    assert "57.00†" in made["md"] and "20.00‡" in made["md"] and made["md"].count(marks.STALE_NOTE) == 1
    assert NOTE.replace("‡ a", "‡ deit_tiny") in made["md"] and "72.00 " in made["md"]
    assert r"57.00$\dagger$" in made["tex"] and r"20.00$\ddagger$" in made["tex"] and "57.00†" in made["html"]
    assert ",†\n" in made["csv"] and ",‡\n" in made["csv"]


def test_the_page_marks_the_row(folder, tmp_path):
    pytest.importorskip("jinja2")
    from aiqvit.report.__main__ import main as report

    assert report([str(folder), "--out", str(tmp_path / "r.html")]) == 0
    text = (tmp_path / "r.html").read_text()
    assert "RepQ-ViT†" in text and "MinMax‡" in text and "AIQViT†" not in text


def test_the_coverage_is_the_first_line_of_a_card():
    assert marks.coverage({}) == ""
    whole = {"macs": 2_500_000, "quantized": 0.9, "one_operand": 0.0, "declared": 0.1, "missed": 0.0, "first": ""}
    assert marks.coverage({"coverage": whole}) == (
        "  coverage 90.00% of 2.5 M multiply-accumulates on quantized operands; 10.00% in full precision by design")
    assert marks.coverage({"coverage": COVERAGE}).endswith("operands; 28.80% MISSED, the first in blocks.0.attn")
