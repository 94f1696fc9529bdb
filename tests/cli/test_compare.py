"""`aiqvit compare`, as typed, on records and outcomes that the real `Store` writes."""

import json

import numpy as np
import pytest

from aiqvit.cli.main import main
from aiqvit.harness.identity.spec import run_id
from aiqvit.harness.store.records import Store, sealed
from aiqvit.interfaces import Outcomes
from tests.report.make_records import of_before, record, write

N = 60
NAMES = tuple(f"val/{'ab'[i // 30]}/{i}.png" for i in range(N))
LABEL = np.arange(N) // 30


def said(classes, names=NAMES):
    """Outcomes of a classifier that says these classes (N,)."""
    top = np.stack([classes, *(10 + i + 0 * LABEL for i in range(4))], 1)
    return Outcomes(tuple(names), {"label": LABEL, "top5": top, "kl": np.linspace(0, 1, N).astype(np.float32)})


def wrong(*places):
    return np.where(np.isin(np.arange(N), places), 7, LABEL)


def keep(folder, method, classes, seed=0, names=NAMES, **more):
    """A run with what it said; returns its id."""
    top1 = 100 * float(np.mean(classes == LABEL))
    made = record(method, "deit_tiny", {"top1": top1, "top5": top1, "kl": 0.5}, seed=seed, limit=N, **more)
    digest = Store(folder).write_outcomes(made["id"], said(classes, names))
    return write_sealed(folder, {**made, "outcomes": digest})


def write_sealed(folder, made):
    Store(folder).write(sealed(made))
    return made["id"]


def compared(capsys, *arguments):
    """Exit code and what is printed."""
    code = main(["compare", *map(str, arguments)])
    found = capsys.readouterr()
    return code, found.out if code == 0 else found.err


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder of results, two levels below where the command is typed."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results" / "mine"


def test_two_runs_are_compared_sample_by_sample(out, capsys):
    keep(out, "brecq", wrong(*range(20)))
    keep(out, "qdrop", wrong(0, 1, 30))
    code, text = compared(capsys, "*brecq*", "*qdrop*", "--limit", "2")
    assert code == 0
    assert "first: imagenet, deit_tiny, BRECQ, 4/4, paper, seed 0" in text
    top1 = next(row for row in text.splitlines() if row.startswith("top1"))
    assert "66.67 [" in top1 and "95.00 [" in top1 and "-28.33 [" in top1 and top1.endswith("samples  stands")
    assert "only the first is right on 1 samples, only the second on 18, p = 7.6e-05" in text
    assert "19 samples changed: 1 right to wrong, 18 wrong to right" in text
    assert "val/a/2.png: class 0 (wrong to right); first: class 7; second: class 0" in text
    assert text.count("first: class") == 2


def test_a_difference_of_few_samples_does_not_stand(out, capsys):
    keep(out, "brecq", wrong(0, 1, 2))
    keep(out, "qdrop", wrong(0, 40))
    text = compared(capsys, "*brecq*", "*qdrop*")[1]
    assert next(row for row in text.splitlines() if row.startswith("top1")).endswith("not distinguishable")


def test_seeds_of_one_method_are_one_cell(out, capsys):
    for seed in range(3):
        keep(out, "brecq", wrong(*range(20 + seed)), seed)
        keep(out, "qdrop", wrong(seed), seed)
    code, text = compared(capsys, "imagenet.deit_tiny.brecq.w4a4", "*qdrop*", out)
    assert code == 0 and "BRECQ, 4/4, paper, seeds 0, 1, 2" in text and "samples and seeds" in text
    assert "McNemar" not in text and "from the first to the second (seeds 0 and 0) 19 samples changed" in text


def test_a_run_is_named_by_file_id_start_or_end(out, capsys):
    first, second = keep(out, "brecq", wrong(0)), keep(out, "qdrop", wrong(1))
    expected = compared(capsys, first, second)
    assert expected[0] == 0
    for one, other in ((out / "runs" / f"{first}.json", second), (first[-12:], second[:-4]), ("*brecq*", second)):
        assert compared(capsys, one, other) == expected


def test_ids_that_mean_nothing_or_too_much(out, capsys):
    first, other = keep(out, "brecq", wrong(0), steps=5), keep(out, "brecq", wrong(1), steps=9)
    code, text = compared(capsys, "*brekq*", first)
    assert code == 2 and "no run '*brekq*' among the 2 in results: did you mean" in text
    code, text = compared(capsys, "*brecq*", first)
    assert code == 2 and "differ in more than their seed" in text and first in text and other in text
    assert f"'{other}' has steps=9; give" in text or f"'{first}' has steps=5; give" in text
    code, text = compared(capsys, first, first)
    assert code == 2 and "is on both sides" in text
    code, text = compared(capsys, first, other, "nowhere")
    assert code == 2 and "results folder 'nowhere' does not exist" in text


def test_two_runs_of_one_seed_are_no_two_seeds(out, capsys):
    """They were calibrated on other pictures of the same names: the tables tell them apart too."""
    for place, calibration in ((1, "draw 0"), (2, "another draw")):
        made = record("brecq", "deit_tiny", {"top1": 97.5, "top5": 97.5}, limit=N)
        spec = {**made["spec"], "calibration": calibration}
        made |= {"spec": spec, "id": run_id(spec)}
        made["outcomes"] = Store(out).write_outcomes(made["id"], said(wrong(place)))
        write_sealed(out, made)
    keep(out, "qdrop", wrong(0))
    code, text = compared(capsys, "*brecq*", "*qdrop*")
    assert code == 2 and "several runs of one seed" in text and text.count("brecq.w4a4.s0-") == 2


def test_runs_on_other_numbers_of_samples_are_refused_though_nobody_kept_outcomes(out, capsys):
    first = keep(out, "brecq", wrong(0))
    made = record("qdrop", "deit_tiny", {"top1": 50.0, "top5": 60.0}, limit=N)
    made["metrics"] |= {"images": N - 3, "skipped": 3}
    code, text = compared(capsys, first, write_sealed(out, made))
    assert code == 2 and f"on {N} samples and " in text and f"on {N - 3} samples (3 could not be read)" in text


@pytest.mark.parametrize("what", ["metrics", "samples"])
def test_outcomes_that_contradict_their_record_are_refused(out, capsys, what):
    first = keep(out, "brecq", wrong(0))
    made = record("qdrop", "deit_tiny", {"top1": 99.0, "top5": 99.0, "kl": 0.5}, limit=N)
    short = said(wrong(*range(20)))
    if what == "samples":
        short = Outcomes(short.samples[:9], {name: array[:9] for name, array in short.arrays.items()})
    made["outcomes"] = Store(out).write_outcomes(made["id"], short)
    code, text = compared(capsys, first, write_sealed(out, made))
    expected = "they give top1 66.6667, its record has 99.0000" if what == "metrics" else "sample"
    assert code == 2 and expected in text


def test_of_several_folders_the_run_that_ended_well_counts(out, capsys, tmp_path):
    first, other = keep(out, "brecq", wrong(0)), keep(out, "qdrop", wrong(1))
    beside = tmp_path / "results" / "aside"
    bad = record("qdrop", "deit_tiny", {}, status="failed", limit=N)
    write(beside, bad)
    code, text = compared(capsys, first, other)
    assert code == 0 and bad["id"] == other and "1 right to wrong, 1 wrong to right" in text
    (beside / "runs" / f"{first}.json").write_text("{}")
    assert compared(capsys, first, other)[0] == 0


def test_all_seeds_of_a_run_are_taken_on_request(out, capsys):
    mine = [keep(out, "brecq", wrong(seed), seed=seed) for seed in range(3)]
    keep(out, "brecq", wrong(9), seed=0, steps=9)
    keep(out, "qdrop", wrong(20), seed=1)
    code, text = compared(capsys, mine[1], "*qdrop*", "--seeds")
    assert code == 0 and "seeds 0, 1, 2" in text and all(run in text for run in mine) and "samples and seeds of" in text
    code, text = compared(capsys, mine[1], "*qdrop*")
    assert code == 0 and mine[1] in text and mine[0] not in text


def test_changed_samples_that_are_listed_are_spread_over_all(out, capsys):
    keep(out, "brecq", wrong())
    keep(out, "qdrop", wrong(*range(10, 30)))
    code, text = compared(capsys, "*brecq*", "*qdrop*", "--limit", "4")
    assert code == 0 and [f"/{i}.png" in text for i in (10, 15, 20, 25)] == [True] * 4
    assert text.count("right to wrong)") == 4


def test_other_data_is_refused(out, capsys):
    keep(out, "brecq", wrong(0))
    keep(out, "qdrop", wrong(0), data="e")
    code, text = compared(capsys, "*brecq*", "*qdrop*")
    assert code == 2 and "evaluated on other data" in text and "brecq" in text and "qdrop" in text


def test_another_order_is_refused_by_the_first_sample_that_differs(out, capsys):
    keep(out, "brecq", wrong(0))
    keep(out, "qdrop", wrong(0), names=(*NAMES[:16], NAMES[17], NAMES[16], *NAMES[18:]))
    code, text = compared(capsys, "*brecq*", "*qdrop*")
    assert code == 2 and "sample 17 is 'val/a/16.png' in 'imagenet.deit_tiny.brecq" in text
    assert "and 'val/a/17.png' in 'imagenet.deit_tiny.qdrop" in text


@pytest.mark.parametrize("harm", ["gone", "changed", "of another run"])
def test_outcomes_that_are_not_those_of_the_record_are_refused(out, capsys, harm):
    first, second = keep(out, "brecq", wrong(0)), keep(out, "qdrop", wrong(1))
    path = Store(out).said / f"{second}.npz"
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"x" if harm == "changed" else
                         (Store(out).said / f"{first}.npz").read_bytes())
    code, text = compared(capsys, first, second)
    assert code == 2 and f"{second}.npz" in text
    assert ("is not there" if harm == "gone" else "was changed after it was written") in text


def test_outcomes_that_the_task_cannot_score_are_refused(out, capsys):
    first = keep(out, "brecq", wrong(0))
    made = record("qdrop", "deit_tiny", {"top1": 50.0}, limit=N)
    digest = Store(out).write_outcomes(made["id"], Outcomes(NAMES, {"label": LABEL}))
    write_sealed(out, {**made, "outcomes": digest})
    code, text = compared(capsys, first, made["id"])
    assert code == 2 and f"the outcomes of {made['id']!r} are not what the task 'imagenet' scores" in text


def test_older_records_are_compared_by_their_sums(out, capsys):
    first = keep(out, "brecq", wrong(*range(20)))
    old = of_before(record("qdrop", "deit_tiny", {"top1": 95.0, "top5": 100.0}, limit=N), "QDrop")
    write(out, old)
    code, text = compared(capsys, first, old["id"])
    assert code == 0 and f"no outcomes in {old['id']}: compared by sums" in text
    assert next(row for row in text.splitlines() if row.startswith("top1")).endswith("sums    stands")
    assert "changed" not in text
    code, text = compared(capsys, first, old["id"], "--save-images", "pictures")
    assert code == 2 and "without outcomes" in text


def test_metrics_that_are_no_percentages_of_samples_have_no_sums(out, capsys):
    for method, value in (("brecq", 40.0), ("qdrop", 43.0)):
        write(out, record(method, "mask_rcnn_swin_tiny", {"box_ap": value}, task="coco"))
    text = compared(capsys, "*brecq*", "*qdrop*")[1]
    assert "-3.00" in text and "nothing" in text and "cannot be told" in text


def test_failed_runs_and_damaged_records_are_refused(out, capsys):
    first = keep(out, "brecq", wrong(0))
    write(out, record("qdrop", "deit_tiny", {}, status="failed"))
    code, text = compared(capsys, first, "*qdrop*")
    assert code == 2 and "failed, so there is nothing to compare" in text
    damaged = out / "runs" / "damaged.json"
    damaged.write_text(json.dumps({"id": "damaged"}))
    code, text = compared(capsys, first, damaged)
    assert code == 2 and "is no record that can be used" in text


def test_shapes_are_compared_by_their_own_metric(out, capsys):
    for method, iou in (("brecq", [0.5, 0.9, 0.7]), ("qdrop", [0.6, 0.9, 0.2])):
        mean = 100 * float(np.mean(iou))
        made = record(method, "point_transformer", {"class_miou": mean, "instance_miou": mean}, task="shapenetpart",
                      limit=3)
        found = Outcomes(("a", "b", "c"), {"category": np.zeros(3, int), "iou": np.array(iou)[:, None]})
        write_sealed(out, {**made, "outcomes": Store(out).write_outcomes(made["id"], found)})
    text = compared(capsys, "*brecq*", "*qdrop*")[1]
    assert "2 samples changed: 1 worse, 1 better" in text
    assert "c (worse); first: class_miou 70.0; second: class_miou 20.0" in text.splitlines()[-2]


def test_a_metric_that_nothing_defines_has_no_number(out, capsys):
    for method in ("brecq", "qdrop"):
        write(out, record(method, "mask_rcnn_swin_tiny", {"box_ap": 40.0, "mask_ap": float("nan")}, task="coco"))
    text = compared(capsys, "*brecq*", "*qdrop*")[1]
    assert next(row for row in text.splitlines() if row.startswith("mask_ap")).split()[1:4] == ["-", "-", "-"]


def test_flags_are_checked(out, capsys):
    assert compared(capsys, "a", "b", "--level", "95")[0] == 2
    assert compared(capsys, "a", "b", "--draws", "1")[0] == 2
