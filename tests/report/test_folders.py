"""Folders of records are found below the one that is named; what else lies in results is never read."""

import pytest

from aiqvit import figures, tables
from aiqvit.report.__main__ import main as report
from aiqvit.report.folders import folders
from tests.report.make_records import record, write


def stored(folder, top1):
    return write(folder, record("minmax", "deit_tiny", {"top1": top1}, seed=int(top1)))


def test_it_is_a_results_folder_the_folder_of_records_or_a_folder_of_them(tmp_path):
    own, deep = stored(tmp_path / "own", 1.0), stored(tmp_path / "a" / "b" / "c" / "d", 2.0)
    stored(tmp_path / "a" / "b" / "c" / "d" / "e", 3.0)  # one too deep
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    assert folders(own) == folders(own / "runs") == [own / "runs"]
    assert folders(tmp_path) == [deep / "runs", own / "runs"]


@pytest.mark.parametrize("name", ["partial", "models", ".git", "runs"])
def test_what_is_no_record_is_not_read(tmp_path, name):
    folder = stored(tmp_path, 1.0)
    stored(tmp_path / name / "x", 2.0)
    assert folders(folder) == [tmp_path / "runs"]


def test_the_commands_find_them(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for i in (1, 2):
        stored(tmp_path / "results" / f"set{i}", float(i))
    place = str(tmp_path / "results")
    assert report([place, "--out", str(tmp_path / "page.html")]) == 0
    assert "2 runs, 0 failed" in (tmp_path / "page.html").read_text()
    assert tables.main([place, "--table", "1", "--out", str(tmp_path / "t"), "--format", "md"]) == 0
    assert "1.50 ± 0.71 (2)" in (tmp_path / "t" / "table1-ours-imagenet-paper.md").read_text()
    assert figures.main([place, "--figure", "bits", "--out", str(tmp_path / "f"), "--format", "svg"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("command", [tables.main, figures.main, report])
def test_a_folder_without_records_is_one_sentence(command, tmp_path, capsys):
    (tmp_path / "results" / "models").mkdir(parents=True)
    assert command([str(tmp_path / "results"), "--out", str(tmp_path / "o")]) == 2
    errors = capsys.readouterr().err
    assert "no records in" in errors and "aiqvit.bench" in errors and len(errors.splitlines()) == 1
