"""Intervals in cells, and what is bold: with statistics that say whatever a test needs."""

import csv
import io
from math import nan
from statistics import mean

import pytest

from aiqvit import tables as command
from aiqvit.catalogue import Registered
from aiqvit.report import intervals, paper, records, tables
from aiqvit.report.__main__ import main as report
from aiqvit.report.writers import write
from tests.report.make_records import record
from tests.report.make_records import write as store
from tests.report.test_tables import make, texts


class Within:
    """Numbers less than `apart` from each other are not told apart; of what has none, nothing is known."""

    level = 0.95

    def __init__(self, apart=2.0, known=True, shown=True):
        self.apart, self.known, self.shown = apart, known, shown

    def of(self, runs, metric):
        value = mean(r["metrics"][metric] for r in runs)
        return intervals.Interval(value, *((value - 1, value + 1, "samples") if self.known else (nan, nan, "")))

    def indistinguishable(self, best, others, metric):
        gaps = [abs(self.of(runs, metric).value - self.of(best, metric).value) for runs in others]
        return [self.known and gap < self.apart for gap in gaps]


def built(*pairs, metrics=("top1",), **options):
    runs = [run for run, _ in pairs]
    return tables.build("imagenet", metrics, "quick", runs, {r["id"]: r for _, r in pairs}, **options)


def four(**options):
    return built(make("fp32", "a", 80.0, "32/32"), make("x", "a", 70.0), make("x", "a", 71.0, seed=1),
                 make("y", "a", 69.5), make("z", "a", 60.0), make("w", "a", 50.0), **options)


def places(table):
    return [row.cells[0].place for row in table.rows]


def test_an_interval_takes_the_place_of_the_deviation():
    shown = [row.cells[0].text for row in four(intervals=Within()).rows]
    assert shown == ["80.00 [79.00, 81.00]", "70.50 [69.50, 71.50] (n=2, -9.50)", "69.50 [68.50, 70.50] (-10.50)",
                     "60.00 [59.00, 61.00] (-20.00)", "50.00 [49.00, 51.00] (-30.00)"]
    for statistics in (Within(known=False), Within(shown=False)):
        assert [row.cells[0].text for row in four(intervals=statistics).rows] == [
            row.cells[0].text for row in four().rows]


@pytest.mark.parametrize(("statistics", "expected"), [
    (None, [0, 1, 2, 0, 0]), (Within(known=False), [0, 1, 0, 0, 0]), (Within(2.0), [0, 1, 1, 0, 0]),
    (Within(15.0), [0, 1, 1, 1, 0]), (Within(99.0), [0, 1, 1, 1, 1])])
def test_bold_is_what_is_not_told_from_the_best(statistics, expected):
    assert places(four(intervals=statistics)) == expected


def test_what_stands_alone_is_not_bold():
    assert places(built(make("x", "a", 70.0), intervals=Within())) == [0]


def test_the_best_divergence_is_the_smallest_and_no_change_is_shown():
    pairs = [make(method, "a", 70.0) for method in ("x", "y", "z")]
    for (_, made), value in zip(pairs, (0.5, 0.1, 0.3), strict=True):
        made["metrics"]["kl"], made["fp32"]["kl"] = value, 0.0
    table = built(*pairs, metrics=("kl",))
    assert places(table) == [0, 1, 2] and texts(table)[1][2] == "0.1000" and "kl in nats" in table.caption
    assert table.numbers[0]["kl_drop"] != table.numbers[0]["kl_drop"]  # NaN


def test_the_csv_always_has_the_columns():
    for statistics, expected in ((None, ("", "", "")), (Within(), ("69.5", "71.5", "samples"))):
        rows = list(csv.DictReader(io.StringIO(write(four(intervals=statistics), "csv"))))
        assert tuple(rows[1][f"top1_{name}"] for name in ("low", "high", "basis")) == expected


def test_every_format_marks_them_and_a_footnote_says_what_that_means():
    for statistics, meaning in ((None, "bold: the best of its group"),
                                (Within(), "in brackets: 95 % interval, over samples")):
        table = four(intervals=statistics)
        assert meaning in table.notes[-1]
        for kind, mark in (("md", "**70.50 "), ("tex", r"\textbf{70.50 "), ("html", "<b>70.50 ")):
            assert mark in write(table, kind)


def test_the_commands_pass_them_on(tmp_path, monkeypatch):
    made = [record(method, "deit_tiny", {"top1": top1}) for method, top1 in (
        ("minmax", 70.0), ("qdrop", 71.0), ("brecq", 60.0), ("ptq4vit", 50.0))]
    folder = store(tmp_path / "r", *made)
    seen = []
    monkeypatch.setattr("aiqvit.statistics.Statistics", lambda found, shown: seen.append(shown) or Within(shown=shown))
    pytest.importorskip("matplotlib")
    assert report([str(folder), "--out", str(tmp_path / "page.html"), "--intervals"]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "<b>71.00 [70.00, 72.00]</b>" in text and "<b>70.00 [" in text
    options = ["--table", "1", "--out", str(tmp_path), "--format", "csv,md"]
    assert command.main([str(folder), *options, "--intervals"]) == 0
    text = (tmp_path / "table1-ours-imagenet-paper.md").read_text()
    assert "**71.00 [70.00, 72.00]**" in text and "**70.00 [" in text and "not distinguishable" in text
    rows = list(csv.DictReader((tmp_path / "table1-ours-imagenet-paper.csv").read_text().splitlines()))
    assert {row["basis"] for row in rows} == {"samples"} and float(rows[0]["high"]) - float(rows[0]["low"]) == 2
    assert command.main([str(folder), *options]) == 0 and seen == [True, True, False]
    assert "[70.00" not in (tmp_path / "table1-ours-imagenet-paper.md").read_text()


def test_the_papers_own_numbers_stay_as_they_are(tmp_path):
    folder = store(tmp_path / "r", *(record(method, "deit_tiny", {"top1": 57.0 + i}, bits="6/6") for i, method in
                                     enumerate(("minmax", "qdrop", "brecq"))))
    (part,) = records.parts(records.load([folder], Registered()))
    table = paper.ours(1, part, Registered().methods, beside=True, intervals=Within(99.0))
    printed = paper.as_printed(1)
    theirs = [row for row in table.rows if row.heads[-1] == "paper"]
    assert [[c.place for c in row.cells] for row in theirs] == [[c.place for c in row.cells] for row in printed.rows]
    assert sum(row.cells[0].place for row in table.rows if row.heads[-1] == "ours") == 3
