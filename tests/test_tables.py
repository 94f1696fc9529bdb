"""The command that writes Tables 1 to 6: the paper's cells, ours from records, both, and every format."""

import csv
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from aiqvit.report import published
from aiqvit.tables import main
from tests.report.make_records import record, write

TASKS = {2: ("coco", "mask_rcnn_swin_s", {"box_ap": 44.04, "mask_ap": 40.0}),
         3: ("modelnet40", "point_transformer", {"macc": 80.0, "oa": 85.0}),
         4: ("shapenetpart", "point_transformer", {"class_miou": 70.0, "instance_miou": 75.5})}


def tables(folder, out, *options):
    assert main([*map(str, [folder, "--out", out, "--format", "tex,md,csv,html"]), *options]) == 0
    return {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()}


def pipe_rows(text):
    """Cells of every line of a Markdown table, without marks."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[re.sub(r"\*\*|</?u>", "", cell.strip()) for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture
def results(tmp_path):
    """DeiT-T with two seeds, a failure, a method that the paper does not have, a limited run, and another preset."""
    top = [record("fp32", "deit_tiny", {"top1": 72.21, "top5": 91.0}),
           record("fp32", "deit_tiny", {"top1": 99.0, "top5": 99.9}, limit=100),
           record("repqvit", "deit_tiny", {"top1": 57.0, "top5": 80.0}, quantizer="log-sqrt2"),
           record("mine", "deit_tiny", {"top1": 61.0, "top5": 80.0}),
           record("Méthode_漢 #1", "deit_tiny", {"top1": 1.0, "top5": 2.0}, bits="8/8"),
           record("minmax", "deit_tiny", {}, status="failed"),
           record("aiqvit", "deit_tiny", {"top1": 60.0, "top5": 80.0}, calibration=1024),
           record("aiqvit", "deit_tiny", {"top1": 62.0, "top5": 80.0}, seed=1, calibration=1024),
           record("aiqvit", "deit_tiny", {"top1": 11.0, "top5": 20.0}, version="method 0", seed=5,
                  started="2025-01-01"),
           record("aiqvit", "deit_tiny", {"top1": 98.0, "top5": 99.0}, limit=100),
           record("aiqvit", "deit_tiny", {"top1": 33.0, "top5": 50.0}, preset="quick"),
           record("aiqvit", "deit_tiny", {"top1": 44.0, "top5": 50.0}, bits="3/3",
                  variant="dfq=off"),
           record("aiqvit", "deit_small", {"top1": 55.5, "top5": 50.0}, bits="6/6", variant="rank=20"),
           record("aiqvit", "mini_vit", {"top1": 77.0, "top5": 90.0}, task="imagenet-mini")]
    return write(tmp_path / "results", *top)


def test_paper_tables_are_complete_and_in_the_papers_order(tmp_path):
    made = tables(tmp_path, tmp_path / "out", "--source", "paper")
    for number in range(1, 7):
        cells = [r["value"] for r in published.rows() if r["table"] == str(number)]
        shown = [cell for row in pipe_rows(made[f"table{number}-paper.md"]) for cell in row
                 if re.fullmatch(r"\d+\.\d+", cell)]
        assert sorted(shown) == sorted(cells)
        assert len(list(csv.DictReader(made[f"table{number}-paper.csv"].splitlines()))) == len(cells)


def test_paper_tables_equal_the_papers_text_row_by_row(tmp_path, shared):
    made = tables(tmp_path, tmp_path / "out", "--source", "paper")
    printed = [re.findall(r"(?<=\| )\d+\.\d+(?= \|)", f"| {line}") for line in
               (shared / "aiqvit-paper.txt").read_text(encoding="utf-8").splitlines() if line.endswith("|")]
    ours = [[cell for cell in row if re.fullmatch(r"\d+\.\d+", cell)] for number in range(1, 7)
            for row in pipe_rows(made[f"table{number}-paper.md"])]
    assert [row for row in ours if row] == [row for row in printed if row]


def test_best_is_bold_and_second_underlined(tmp_path):
    made = tables(tmp_path, tmp_path / "out", "--source", "paper", "--table", "1,2")
    lines = made["table1-paper.tex"].splitlines()
    aiqvit = next(line for line in lines if line.startswith(r"AIQViT (ours) & $\checkmark$ & 6/6"))
    assert r"\textbf{70.78}" in aiqvit and r"\underline{80.21}" in aiqvit and r"\underline{84.39}" in aiqvit
    assert r"\textbf{72.21}" not in made["table1-paper.tex"]  # full precision does not compete
    assert made["table2-paper.md"].count("**41.2**") == 3  # equal values share their place
    row = next(row for row in made["table2-paper.md"].splitlines() if "BRECQ" in row and "6/6" in row)
    assert "<u>" not in row  # three are best, so none is second


def test_ours_keeps_presets_limits_and_embedded_data_apart(results, tmp_path):
    made = tables(results, tmp_path / "out", "--table", "1")
    assert {name.removesuffix(".md") for name in made if name.endswith(".md")} == {
        f"table1-ours-{part}" for part in ("imagenet-paper", "imagenet-paper-limit100", "imagenet-quick",
                                           "imagenet-mini-paper")}
    full = made["table1-ours-imagenet-paper.md"]
    assert "98.0" not in full and "LIMITED" not in full and "99.00" not in full
    limited = made["table1-ours-imagenet-paper-limit100.md"]
    assert limited.startswith("LIMITED to 100 samples") and "98.00" in limited and "61.00" not in limited
    assert "| mini_vit" in made["table1-ours-imagenet-mini-paper.md"]


def test_ours_cells_and_footer(results, tmp_path):
    made = tables(results, tmp_path / "out", "--table", "1")["table1-ours-imagenet-paper.md"]
    rows = {(row[0], row[2]): row[3:] for row in pipe_rows(made)}
    assert rows["AIQViT^c", "4/4"] == ["61.00 ± 1.41 (2)", *["—"] * 6]
    assert "<u>—" not in made and "**—" not in made
    assert rows["mine", "4/4"][0] == "61.00" and rows["MinMax", "4/4"][0] == "failed"
    order = [row[0] for row in pipe_rows(made) if row[2] == "4/4"]
    assert order[-3:] == ["MinMax", "mine", "AIQViT^c"] and order[:2] == ["PTQ4ViT", "RepQ-ViT"]
    for part in ("protocol: unified", "preset: paper", "seeds: 0, 1", "RepQ-ViT 32", "AIQViT 1024",
                 "samples evaluated: 50000 of 50000", "scheme differs at post_softmax activations: "
                 "log-sqrt2 per tensor (RepQ-ViT); uniform per tensor (", "torch 2.14",
                 "commit abcdef012 with changes",
                 "failed: deit_tiny, MinMax, 4/4, seed 0: blocks.3", "reconstructed from the paper's text",
                 "other settings, weights or versions of the same cells, left out: deit_tiny AIQViT "
                 "[images=32,method 0] 4/4 (", "mean ± standard deviation"):
        assert part in made, part
    assert "SUBSET" not in made and "full precision differs" not in made


def test_other_data_is_another_table(tmp_path):
    folder = write(tmp_path / "r", record("repqvit", "deit_tiny", {"top1": 50.0}, data="1234567"),
                   record("repqvit", "deit_tiny", {"top1": 60.0}, data="abcdefg"))
    made = tables(folder, tmp_path / "out", "--table", "1")
    assert "50.00" in made["table1-ours-imagenet-paper-data123456.md"]
    assert "60.00" in made["table1-ours-imagenet-paper-dataabcdef.md"]


def test_a_subset_is_marked(tmp_path):
    folder = write(tmp_path / "r", record("fp32", "deit_tiny", {"top1": 80.0}, val=1300),
                   record("repqvit", "deit_tiny", {"top1": 50.0}, val=1300))
    text = tables(folder, tmp_path / "out", "--table", "1")["table1-ours-imagenet-paper.md"]
    assert text.startswith("SUBSET: 1300 of the 50000 samples") and "(deit_tiny top1 +7.79)" in text


def test_both_shows_the_difference(results, tmp_path):
    made = tables(results, tmp_path / "out", "--table", "1,5,6", "--source", "both")
    rows = pipe_rows(made["table1-both-imagenet-paper.md"])
    column = {row[3]: row[4] for row in rows if row[0].startswith("AIQViT") and row[2] == "4/4"}
    assert column == {"paper": "62.33", "ours": "61.00 ± 1.41 (2)", "difference": "-1.33"}
    assert [row[3] for row in rows if row[0] == "mine"] == ["ours"]
    cells = list(csv.DictReader(made["table1-both-imagenet-paper.csv"].splitlines()))
    own = next(c for c in cells if c["source"] == "ours" and c["method"] == "aiqvit")
    assert own["difference"] == "-1.33" and float(own["value"]) == 61.0 and len(own["run_ids"].split()) == 2
    parts = pipe_rows(made["table5-both-imagenet-paper.md"])
    assert ["✓", "", "✓", "difference", "+17.42", "—", "—"] in parts
    assert ["✓", "✓", "✓", "ours", "—", "61.00 ± 1.41 (2)", "—"] in parts  # the full method fills the last row
    assert ["DeiT-S", "r = 20", "ours", "—", "—", "55.50"] in pipe_rows(made["table6-both-imagenet-paper.md"])
    assert not any("mini" in name for name in made)  # nothing is published on embedded data


@pytest.mark.parametrize("number", TASKS)
def test_other_tasks(number, tmp_path):
    task, model, metrics = TASKS[number]
    folder = write(tmp_path / "r", record("aiqvit", model, metrics, task=task, val=5000),
                   record("fp32", model, metrics, task=task, val=5000))
    made = tables(folder, tmp_path / "out", "--table", str(number))[f"table{number}-ours-{task}-paper.md"]
    own = next(row for row in pipe_rows(made) if row[0].startswith("AIQViT") and row[2] == "4/4")
    digits = 1 if number == 2 else 2
    assert [cell for cell in own[3:] if cell != "—"] == [f"{value:.{digits}f}" for value in metrics.values()]
    assert own.count("—") == (6 if number == 2 else 0)


class Page(HTMLParser):
    """Counts table cells; links and scripts must not occur."""

    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def test_html_is_a_page(results, tmp_path):
    text = tables(results, tmp_path / "out", "--table", "1")["table1-ours-imagenet-paper.html"]
    page = Page()
    page.feed(text)
    assert page.tags.count("td") % 10 == 0 and page.tags.count("th") == 10
    assert not {"script", "link", "img"} & set(page.tags) and "&lt;nan&gt;" in text and "<nan>" not in text


def test_latex_compiles(results, tmp_path):
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex")
    for source in ("paper", "both", "ours"):
        out = tmp_path / source
        tables(results, out, "--source", source)
        done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"], cwd=out,
                              capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Overfull" not in done.stdout


def test_broken_records_are_named_and_skipped(results, tmp_path, capsys):
    (results / "runs" / "broken.json").write_text("{", encoding="utf-8")
    (results / "runs" / "foreign.json").write_text('["x"]', encoding="utf-8")
    (results / "runs" / "old.json").write_text('{"id": "old", "status": "done", "spec": {}}', encoding="utf-8")
    tables(results / "runs", tmp_path / "out", "--table", "1")  # the folder of records itself is fine too
    errors = capsys.readouterr().err
    assert "broken.json" in errors and "foreign.json" in errors and "old.json: spec.task: field required" in errors


@pytest.mark.parametrize("arguments, message", [
    (["--table", "7"], "--table 7: expected 1, 2"), (["--source", "mine"], "--source mine: expected paper, ours, both"),
    (["--format", "pdf"], "--format pdf"), (["nowhere"], "'nowhere' does not exist"), (["--nonsense"], "nonsense")])
def test_wrong_input_is_one_sentence(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) == 1


def test_no_records_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no records" in capsys.readouterr().err
