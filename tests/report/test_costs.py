"""What runs cost, from their logs."""

import pytest

from aiqvit.cli.main import main
from tests.report.make_records import record, write

LOG = ({"unit": "mlp:blocks.0.mlp", "seconds": 30.0}, {"unit": "patch_embed", "seconds": 6.0},
       {"unit": "blocks.0", "seconds": 48.0, "peak_mib": 90.0}, {"unit": "blocks.1", "seconds": 12}, {"unit": "head"})
BESIDE = {"minutes": 2.0, "preset": "quick"}


def costs(folder, capsys, *flags: str) -> list[list[str]]:
    assert main(["costs", str(folder), *flags]) == 0
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
            if line.startswith("|")]


def test_minutes_are_those_of_the_parts_and_a_unit_is_the_median(tmp_path, capsys):
    write(tmp_path, record("fp32", "m", {"top1": 80.0}), record("qdrop", "m", {"top1": 70.0}, log=LOG, **BESIDE),
          record("minmax", "m", {"top1": 10.0}, **BESIDE))
    header, _, *rows = costs(tmp_path, capsys)
    found = {row[2]: dict(zip(header[3:], row[3:], strict=True)) for row in rows}
    assert found == {
        "QDrop": {"Minutes": "2.00", "MLPs": "0.50", "Units": "1.10", "Rest": "0.40", "A unit (s)": "12.0",
                  "Longest (s)": "48.0", "Longest unit": "blocks.0", "A unit (MiB)": "90", "Peak MiB": "100",
                  "Before (MiB)": "—"},
        "MinMax": {"Minutes": "2.00", **dict.fromkeys(header[4:11], "—"), "Peak MiB": "100", "Before (MiB)": "—"}}


def test_seeds_are_averaged_and_failed_runs_left_out(tmp_path, capsys):
    write(tmp_path, *(record("qdrop", "m", {"top1": 70.0}, seed=seed, minutes=minutes, preset="quick")
                      for seed, minutes in enumerate((2.0, 4.0))),
          record("brecq", "m", {}, status="failed", preset="quick"))
    _, _, *rows = costs(tmp_path, capsys)
    assert [row[2:4] for row in rows] == [["QDrop", "3.00"]]


@pytest.mark.parametrize("seconds", ("long", None, [1]))
def test_a_log_that_says_something_else_is_no_error(tmp_path, capsys, seconds):
    write(tmp_path, record("qdrop", "m", {"top1": 70.0}, log=[{"unit": "a", "seconds": seconds}], **BESIDE))
    _, _, row = costs(tmp_path, capsys)
    assert row[3:5] == ["2.00", "—"]


def test_csv_has_a_line_a_run_of_unrounded_numbers(tmp_path, capsys):
    write(tmp_path, record("qdrop", "m", {"top1": 70.0}, log=LOG, **BESIDE))
    assert main(["costs", str(tmp_path), "--format", "csv"]) == 0
    header, line = capsys.readouterr().out.strip().splitlines()
    assert header.startswith("Model,W/A,Method,Minutes") and line.startswith("m,4/4,QDrop,2.0,0.5,1.1")


def test_a_folder_without_records_is_said(tmp_path, capsys):
    assert main(["costs", str(tmp_path)]) == 2
    assert "no records" in capsys.readouterr().err
