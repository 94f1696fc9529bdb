"""One tidy frame: a row a run and metric; and its summary, a row a cell."""

from math import isnan

from aiqvit.catalogue import Registered
from aiqvit.report import metrics, records
from aiqvit.report.cells import cells
from aiqvit.report.frame import CELL, tidy
from aiqvit.report.summary import by_cell, summarise, text
from tests.report.make_records import record, write

FULL = {"top1": 80.0, "kl": 0.0}


def frame(tmp_path):
    made = [record("fp32", "m", FULL), record("minmax", "m", {"top1": 70.0, "kl": 0.5}),
            record("minmax", "m", {"top1": 72.0, "kl": float("nan")}, seed=1),
            record("minmax", "m", {}, seed=2, status="failed"), record("qdrop", "m", {}, status="failed")]
    made = [{**one, "fp32": None if one["spec"]["method"] == "fp32" else FULL} for one in made]
    return tidy(cells(records.load([write(tmp_path, *made)], Registered())))


def test_a_row_a_run_and_metric(tmp_path):
    found = frame(tmp_path)
    assert len(found) == 10 and not found.duplicated(["id", "metric"]).any()
    one = found[(found.method == "minmax") & (found.seed == 0)].set_index("metric")
    assert one.value.to_dict() == {"top1": 70.0, "kl": 0.5} and one.change["top1"] == -10.0 and isnan(one.change["kl"])
    assert one.seconds["top1"] == 120.0 and one.peak_mib["top1"] == 100.0 and one.images["top1"] == 50000
    failed = found[found.status == "failed"]
    assert set(failed.metric) == {"top1", "kl"} and failed.value.isna().all() and failed.seconds.isna().all()


def test_a_row_a_cell(tmp_path):
    summary = summarise(frame(tmp_path))
    assert not summary.duplicated(CELL).any()
    found = by_cell(summary)
    top1, kl = (found["m", "minmax", "", "4/4", name] for name in ("top1", "kl"))
    assert (top1.value, round(top1.value_std, 3), top1.n, top1.change) == (71.0, 1.414, 2, -9.0)
    assert (top1.done, top1.failed, len(top1.runs), len(top1.ids.split())) == (2, 1, 2, 3)
    assert (kl.value, kl.n, kl.done) == (0.5, 1, 2) and isnan(kl.value_std) and isnan(kl.low) and kl.basis == ""


def test_the_text_of_a_cell(tmp_path):
    found = by_cell(summarise(frame(tmp_path)))
    shown = {method: text(found["m", method, "", bits, "top1"], 1, "n={}", change=True)
             for method, bits in (("fp32", "32/32"), ("minmax", "4/4"), ("qdrop", "4/4"))}
    assert shown == {"fp32": "80.0", "minmax": "71.0 ± 1.4 (n=2, -9.00)", "qdrop": "failed"}
    assert text(found["m", "minmax", "", "4/4", "kl"]) == "0.5000" and text(None) == "—"


def test_metrics_say_their_units():
    assert [*map(metrics.heading, ("top1", "kl", "agreement", "other"))] == [
        "top1 (%)", "KL (nats)", "agreement (%)", "other (%)"]
    assert metrics.units(("top5", "top1", "kl")) == "top5 and top1 in percent, kl in nats"
    assert metrics.headline(("images", "kl", "top5")) == "top5" and metrics.metric("kl").axis == "KL (nats)"
    assert metrics.metric("kl").lower and not metrics.metric("top1").lower
