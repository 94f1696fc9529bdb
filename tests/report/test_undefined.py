"""A metric that is undefined, NaN, is shown as - everywhere, and survives being written and read."""

import json
import math

import pytest

from aiqvit.harness.store.records import Store
from aiqvit.report import plots
from aiqvit.report.__main__ import main as report
from aiqvit.report.paper import ours
from aiqvit.report.records import About, parts
from tests.report.make_records import record, write
from tests.report.test_tables import texts

NAN = float("nan")
METHODS = {"minmax": About("MinMax"), "fp32": About("Full precision")}


def runs(box, mask):
    made = [record(method, "mask_rcnn_swin_t", {"box_ap": box, "mask_ap": mask}, task="coco", seed=seed, val=5000)
            for method, seed in (("fp32", 0), ("minmax", 0), ("minmax", 1))]
    return [{**one, "fp32": made[0]["metrics"]} for one in made]


def test_it_is_written_as_text_and_read_as_a_number(tmp_path):
    write(tmp_path, *runs(NAN, 30.0))
    stored = json.loads(next((tmp_path / "runs").iterdir()).read_text())
    assert stored["metrics"]["box_ap"] == "nan" == stored["fp32"]["box_ap"]
    for found in Store(tmp_path).records():
        assert math.isnan(found["metrics"]["box_ap"]) and math.isnan(found["fp32"]["box_ap"])
        assert found["metrics"]["mask_ap"] == 30.0


@pytest.mark.parametrize(("box", "mask"), [(NAN, NAN), (40.0, NAN), (NAN, 30.0)])
def test_tables_figures_and_the_page_show_it(tmp_path, box, mask):
    folder = write(tmp_path / "results", *runs(box, mask))
    found = [{**one, "label": one["spec"]["method"], "stale": False} for one in Store(folder).records()]
    (part,) = parts(found)
    for name, figure in plots.drawn(part, list(plots.FIGURES)):
        figure.savefig(tmp_path / f"{name}.png")
    cells = [text for row in texts(ours(4, part, METHODS)) for text in row]
    assert "nan" not in " ".join(cells)
    assert report([str(folder), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "-: undefined, there is nothing to score it by" in page and ">nan" not in page
