"""What passes for a record: right types, its own spec, nothing changed since it was written."""

import copy
import json
import random

import pytest

from aiqvit.harness.identity.spec import run_id
from aiqvit.harness.store.records import Store, sealed
from aiqvit.harness.store.schema import checksum
from aiqvit.harness.store.trust import fault
from aiqvit.io.structure import parse_json
from tests.harness.store.test_records import ERROR, RECORD, RUN, changed, put
from tests.report.make_records import of_before, record

LONG = "x" * 5_001


@pytest.mark.parametrize(("change", "place"), [
    ({"metrics": "50"}, "metrics"), ({"spec": None}, "spec"), ({"times": []}, "times"), ({"fp32": 3}, "fp32"),
    ({"coverage": 0.5}, "coverage"), ({"defaults": []}, "defaults"), ({"log": {}}, "log"), ({"status": "?"}, "status"),
    ({"metrics": {"top1": "n/a"}}, "metrics.top1"), ({"metrics": {"top1": None}}, "metrics.top1"),
    ({"metrics": {"top1": [1]}}, "metrics.top1"), ({"metrics": {"top1": True}}, "metrics.top1"),
    ({"metrics": {"top1": 999}}, "top1 is 999"), ({"metrics": {"top1": -0.1}}, "top1 is -0.1"),
    ({"metrics": {"top1": "inf"}}, "top1 is inf"), ({"metrics": {"top1": 10**400}}, "metrics.top1"),
    ({"metrics": {"images": 1.5}}, "images is 1.5"),
    ({"metrics": {"images": -1}}, "images is -1"),
    ({"fp32": {"top1": "-"}}, "fp32.top1"), ({"fp32": {"top1": 1e9}}, "fp32: top1 is"),
    ({"times": {"quantize": "1 min"}}, "times.quantize"), ({"times": {"quantize": -1.0}}, "times.quantize"),
    ({"times": {"evaluate": "nan"}}, "times.evaluate"),
    ({"spec": {"bits": 4}}, "spec.bits"), ({"spec": {"bits": "four"}}, "spec.bits"),
    ({"spec": {"bits": "4/4\n"}}, "spec.bits"),
    ({"spec": {"seed": "0"}}, "spec.seed"), ({"spec": {"seed": 2**32}}, "spec.seed"),
    ({"spec": {"limit": "all"}}, "spec.limit"), ({"spec": {"limit": 0}}, "spec.limit"),
    ({"spec": {"settings": []}}, "spec.settings"), ({"spec": {"preset": "a\x1b[2J"}}, "cannot be printed"),
    ({"spec": {"model": "m" * 201}}, "spec.model"), ({"spec": {"task": "a\nb"}}, "cannot be printed"),
    ({"log": [1]}, "log.0"), ({"log": [{"unit": 3}]}, "log.0.unit"), ({"log": [{"b1": 0.5}]}, "log.0.b1"),
    ({"log": [{"loss_after": "low"}]}, "log.0.loss_after"), ({"scheme": ["x"]}, "scheme.0"),
    ({"scheme": [{"role": "head"}]}, "scheme.0.kind"), ({"data": {"skipped": 3}}, "data.skipped"),
    ({"data": {"notes": [3]}}, "data.notes"), ({"data": {"notes": [LONG]}}, "data.notes"),
    ({"data": {"val": "all"}}, "data.val"), ({"manifest": {"started": 2026}}, "manifest.started"),
    ({"manifest": {"started": "later"}}, "manifest.started"), ({"manifest": {"packages": ["torch"]}}, "packages"),
    ({"manifest": {"git": {"commit": 3, "dirty": True}}}, "manifest.git"), ({"peak_mib": {"rss": "1"}}, "peak_mib.rss"),
    ({"calibration_images": True}, "calibration_images"), ({"calibration_images": -1}, "calibration_images"),
    ({"coverage": {"missed": 2.0}}, "coverage.missed"), ({"status": "failed", "error": {}}, "error.type"),
    ({"status": "failed"}, "it failed, but has no error"), ({"id": 3}, "not the record of this run"),
], ids=str)
def test_records_of_other_kinds_are_skipped_by_name(tmp_path, capsys, change, place):
    put(Store(tmp_path), changed(change))
    assert Store(tmp_path).read(RUN) is None
    text = capsys.readouterr().err
    assert f"{RUN}.json" in text and place in text and text.count("\n") == 1


@pytest.mark.parametrize("name", sorted(RECORD.keys() - {"peak_mib", "defaults", "error"}))
def test_a_record_that_lacks_a_field_is_named_and_skipped(tmp_path, capsys, name):
    put(Store(tmp_path), {key: value for key, value in RECORD.items() if key != name})
    assert Store(tmp_path).read(RUN) is None and f"{RUN}.json" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["quantize", "evaluate"])
def test_a_finished_run_has_its_times(field):
    made = copy.deepcopy(RECORD)
    del made["times"][field]
    assert f"times.{field}" in fault(made | {"checksum": checksum(made)}, RUN)


@pytest.mark.parametrize("change", [{"spec": {"seed": 1}}, {"spec": {"weights": "other"}}, {"spec": {"limit": 5}},
                                    {"spec": {"settings": {}}}, {"spec": {"extra": 1}}, {"spec": {"version": "2"}}])
def test_another_spec_is_another_run(change):
    assert "its spec is that of another run" in fault(changed(change), RUN)


def test_every_changed_value_is_found():
    """Whatever single value of a stored record is changed, the record is not taken for what was written."""
    places, draw = [], random.Random(0)

    def visit(value, place):
        if isinstance(value, dict | list) and value:
            for key in value if isinstance(value, dict) else range(len(value)):
                visit(value[key], (*place, key))
        else:
            places.append(place)

    visit(RECORD, ())
    assert len(places) > 40
    for place in places:
        for new in (draw.random(), "x", True, None, {}, 7):
            made = copy.deepcopy(RECORD)
            inner = made
            for key in place[:-1]:
                inner = inner[key]
            if inner[place[-1]] != new:
                inner[place[-1]] = new
                assert fault(made, RUN), f"{place} = {new}"


@pytest.mark.parametrize(("method", "bits"), [
    ("minmax", "32/32"), ("fp32", "4/4"), ("minmax", "1/4"), ("minmax", "4/17"), ("minmax", "9/9"), ("minmax", "0/0")])
def test_bits_that_no_run_has(method, bits):
    made = record(method, "m", {"top1": 50.0})
    made["spec"]["bits"] = bits
    made = made | {"id": run_id(made["spec"])}
    with pytest.raises(ValueError, match="bits"):
        sealed(made)


def test_defaults_cover_the_settings():
    made = record("minmax", "m", {"top1": 50.0}, steps=3)
    del made["defaults"]["steps"]
    with pytest.raises(ValueError, match="its defaults have no steps"):
        sealed(made)


def test_a_record_cannot_pass_as_one_of_before():
    bare = {key: value for key, value in RECORD.items() if key not in ("format", "checksum")}
    for made in (bare, bare | {"label": "MinMax"}, bare | {"format": 2}, bare | {"checksum": RECORD["checksum"]}):
        assert "its checksum is missing" in fault(made, RUN)
    old = of_before(record("minmax", "m", {"top1": 50.0}), "MinMax")
    assert fault(json.loads(json.dumps(old)), old["id"]) == ""


def test_what_a_text_says_is_what_was_written():
    made = sealed(record("minmax", "m", {"top1": 100 / 3, "top5": 1e-300}, rate=0.1 + 0.2, note="é \u2028"))
    for text in (json.dumps(made), json.dumps(made, indent=3, ensure_ascii=False), json.dumps(made, sort_keys=True)):
        assert parse_json(text) == made and fault(parse_json(text), made["id"]) == ""


@pytest.mark.parametrize("metrics", [{"top1": 101.0}, {"top1": "high"}, {}])
def test_what_could_not_be_read_again_is_not_sealed(metrics):
    with pytest.raises(ValueError, match="metrics"):
        sealed(RECORD | {"metrics": metrics})
    assert sealed(RECORD | {"metrics": {}, "status": "failed", "error": ERROR})["status"] == "failed"
