"""A run is what its settings are: the preset's own keeps its cell whatever the clock says, the others are variants."""

import itertools
from zlib import crc32

import pytest

from aiqvit.catalogue import Registered
from aiqvit.report import plots, records
from aiqvit.report.cells import cells, difference
from aiqvit.tables import main
from tests.report.make_records import of_before, record, write

KNOWN = Registered()
LATER, EARLIER = "2027-01-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00"


def loaded(folder, *made):
    return records.load([write(folder, *made)], KNOWN)


def labels(found):
    return {runs[0]["label"]: [r["metrics"].get("top1") for r in runs] for runs in found.values()}


def own(**changes):
    return record("aiqvit", "deit_tiny", {"top1": 60.0}, **changes)


def of_old(top1, **settings):
    made = record("aiqvit", "deit_tiny", {"top1": top1}, started=settings.pop("started", EARLIER), preset="quick",
                  **{"steps": 320, "lowrank": True, **settings})
    return of_before(made, "AIQViT")


CLAIMS = {  # what another run of the cell has -> how its label ends
    "other settings under the old label": ((of_old(60.0), of_old(12.3, steps=1, lowrank=False, started=LATER)),
                                           "[steps=1,lowrank=off]"),
    "an older version": ((own(started=EARLIER), own(version="method 0", started=LATER)), "[method 0]"),
    "version 9 is not above 10": ((own(version="method 10"), own(version="method 9", started=LATER)), "[method 9]"),
    "samples prepared in another way": ((own(), own(started=LATER, **{"inputs:transform": "crop=0.5"})),
                                        "[inputs:transform=crop=0.5]"),
}


@pytest.mark.parametrize("claims, text", CLAIMS.values(), ids=CLAIMS)
def test_the_presets_own_wins_and_the_other_says_what_it_is(tmp_path, claims, text):
    for i, order in enumerate(itertools.permutations(claims)):
        found = cells(loaded(tmp_path / str(i), *order))
        proper, other = claims
        assert [r["id"] for r in found["deit_tiny", "aiqvit", "", proper["spec"]["bits"]]] == [proper["id"]]
        (variant,) = (runs for runs in found.values() if runs[0]["id"] == other["id"])
        assert variant[0]["label"] == f"AIQViT {text}"


def with_spec(made, **changes):
    spec = {**made["spec"], **changes}
    return {**made, "spec": spec, "id": f"{made['id']}-{crc32(str(changes).encode()):x}"}


def test_weights_are_those_of_most_runs_of_the_model():
    most = [with_spec({**own(bits=bits), "label": "AIQViT"}, weights="a" * 64) for bits in ("3/3", "6/6")]
    rivals = [with_spec({**own(started=s), "label": "AIQViT"}, weights=w * 64) for s, w in ((EARLIER, "a"),
                                                                                         (LATER, "7664ed"))]
    found = labels(cells([*most, *rivals]))
    assert "AIQViT [weights 7664ed]" in found and len(found) == 2


@pytest.mark.parametrize("changes, text", [
    ({"threads": 4}, "4 threads"), ({"threads": 1}, "1 thread"), ({"device": "cuda"}, "cuda"),
    ({"version": "method 1, task 2"}, "task 2"), ({"train": "abcdef99"}, "calibration data abcdef")])
def test_what_differs_in_words(changes, text):
    base = with_spec(own(version="method 1, task 1"), threads=2)
    assert difference(with_spec(base, **changes), base) == text
    assert difference({**base, "id": "x-5eed"}, base) == "run 5eed"


def test_a_run_that_failed_never_hides_one_that_ended_well(tmp_path):
    found = cells(loaded(tmp_path, own(version="method 1"), record("aiqvit", "deit_tiny", {}, status="failed",
                                                                   version="method 2", started=LATER)))
    assert labels(found) == {"AIQViT": [60.0], "AIQViT [method 2]": [None]}


def test_more_seeds_win_and_nothing_is_lost(tmp_path):
    two = [own(seed=seed) for seed in (1, 2)]
    one = with_spec(own(seed=0, started=LATER), threads=4)
    found = cells([{**r, "label": "AIQViT"} for r in (*two, one)])
    assert {runs[0]["label"]: len(runs) for runs in found.values()} == {"AIQViT": 2, "AIQViT [4 threads]": 1}


def test_two_draws_of_one_seed_are_two_rows():
    made = [with_spec({**own(), "label": "AIQViT"}, calibration=c) for c in ("1a2b3c4d", "5e6f7a8b")]
    texts = labels(cells(made))
    assert len(texts) == 2 and any(text.startswith("AIQViT [run ") for text in texts)


def test_tables_name_what_is_left_out_and_settings_that_no_label_says(tmp_path, capsys):
    folder = write(tmp_path / "r", of_old(60.0), of_old(12.3, steps=1, lowrank=False, started=LATER))
    assert main([str(folder), "--table", "1", "--out", str(tmp_path / "o"), "--format", "md"]) == 0
    text = next((tmp_path / "o").iterdir()).read_text()
    assert "60.00" in text and "12.3" not in text
    assert "left out: deit_tiny AIQViT [steps=1,lowrank=off] 4/4 (" in text
    alone = write(tmp_path / "alone", *(of_old(70.0, bits=bits) for bits in ("3/3", "6/6")),
                  of_old(12.3, steps=1, lowrank=False))
    assert main([str(alone), "--table", "1", "--out", str(tmp_path / "a"), "--format", "md"]) == 0
    text = next((tmp_path / "a").iterdir()).read_text()
    assert "deit_tiny AIQViT 4/4 has other settings than most cells of its method: steps=1,lowrank=off" in text
    capsys.readouterr()


def test_figures_say_that_variants_are_not_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    (part,) = records.parts(loaded(tmp_path, own(), own(version="method 0"), own(variant="rank=20")))
    figure = plots.by_bits(part)
    assert figure.legends[0].get_title().get_text().startswith("2 variants (other settings")
    assert list(figure.axes[0].containers[0].lines[0].get_ydata()) == [60.0]


def test_lines_of_variants_against_calibration_are_labelled(tmp_path):
    pytest.importorskip("matplotlib")
    made = [own(variant=f"images={n}{more}", calibration=n, version=version) for n in (32, 64)
            for more, version in (("", "method 1"), (",rank=20", "method 1"), ("", "method 0"))]
    (part,) = records.parts(loaded(tmp_path, *made))
    (ax,) = plots.by_calibration(part).axes
    assert {line.get_label() for line in ax.lines} == {"AIQViT 4/4", "AIQViT [rank=20] 4/4", "AIQViT [method 0] 4/4"}


def test_a_column_never_mixes_weights_or_calibration_data():
    """Also where the other weights are alone in their cell, as where those of the usual run failed."""
    usual = [{**own(bits=bits), "label": "AIQViT"} for bits in ("3/3", "6/6")]
    usual = [with_spec(one, weights="a" * 64, train="b" * 64) for one in usual]
    for change, text in (({"weights": "c" * 64}, "weights cccccc"), ({"train": "d" * 64}, "calibration data dddddd")):
        other = with_spec({**own(), "label": "AIQViT"}, **{"weights": "a" * 64, "train": "b" * 64, **change})
        found = cells([*usual, other])
        assert ("deit_tiny", "aiqvit", "", "4/4") not in found
        assert [runs[0]["label"] for where, runs in found.items() if where[2]] == [f"AIQViT [{text}]"]


def test_of_as_many_runs_the_weights_with_full_precision_are_usual():
    full = with_spec({**record("fp32", "deit_tiny", {"top1": 80.0}), "label": "FP"}, weights="a" * 64)
    made = [with_spec({**own(bits=bits), "label": "AIQViT"}, weights=w * 64) for bits, w in (("3/3", "z"), ("4/4", "a"),
                                                                                          ("6/6", "z"))]
    assert {where[2] for where in cells([full, *made])} == {"", "weights zzzzzz"}


def test_a_newer_version_than_ours_never_takes_a_cell(tmp_path):
    from aiqvit.harness.identity.spec import version_text
    from aiqvit.registry import METHODS, TASKS

    text = version_text(METHODS.get("aiqvit"), TASKS.get("imagenet"))
    ours = own(version=text, calibration=1024)
    newer = own(version=text.replace("method 1", "method 999"), calibration=1024, started=LATER)
    found = cells(loaded(tmp_path, ours, newer))
    assert [r["id"] for r in found["deit_tiny", "aiqvit", "", "4/4"]] == [ours["id"]]
    assert "AIQViT [method 999]" in labels(found)


def test_defaults_that_a_record_claims_do_not_make_it_the_preset(tmp_path):
    """Of today's version the preset stands in the code."""
    from aiqvit.harness.identity.spec import version_text
    from aiqvit.registry import METHODS, TASKS

    text = version_text(METHODS.get("aiqvit"), TASKS.get("imagenet"))
    claims = own(version=text, steps=1, lowrank=False, calibration=1024)
    assert claims["defaults"]["steps"] == 1
    (label,) = labels(cells(loaded(tmp_path, claims)))
    assert label == "AIQViT [steps=1,lowrank=off]"


def test_one_run_with_two_sets_of_numbers_is_told(tmp_path, capsys):
    one = own()
    folders = [write(tmp_path / name, {**one, "metrics": {**one["metrics"], "top1": top1}})
               for name, top1 in (("a", 60.0), ("b", 1.0))]
    assert [r["metrics"]["top1"] for r in records.load(folders, KNOWN)] == [60.0]
    assert "is there again in" in capsys.readouterr().err
