"""The name of bench's own table says which settings are not the preset's."""

from dataclasses import replace

import pytest

from aiqvit.io.names import file_name
from aiqvit.report import tables
from tests.report.test_tables import make, table, texts


def name(*pairs, **options):
    runs = [run for run, _ in pairs]
    return tables.build("imagenet", ("top1",), "quick", runs, {r["id"]: r for _, r in pairs}, **options).name


def with_settings(run, **settings):
    return replace(run, spec=replace(run.spec, settings={**run.spec.settings, **settings}))


@pytest.mark.parametrize("changes, text", [
    ([{}], ""), ([{"steps": 1, "lowrank": False}], "-steps=1,lowrank=off"), ([{}, {"steps": 1}], "-steps=1"),
    ([{"images": 4}], "-images=4"), ([{"rank": 20}, {"steps": 1}], "-rank=20+steps=1"),
    ([{"rank": 20, "steps": 1}], "-rank=20,steps=1"), ([{"bits:head": "8"}], "bits_head=8")])
def test_it_says_what_differs(changes, text):
    shown = name(*(make("a", "m", 1.0, title=str(i), **change) for i, change in enumerate(changes)))
    assert shown.startswith("imagenet-quick") and text in shown and (text or shown == "imagenet-quick")
    assert file_name(shown) == shown


def test_an_ablation_keeps_its_name_and_says_what_is_typed_besides():
    run = make("a", "m", 1.0, lowrank=False, steps=1)
    assert name(run, grid="table5", typed={"images"}) == "imagenet-quick-table5"
    assert name(run, grid="table5", typed={"steps", "images"}) == "imagenet-quick-table5-steps=1"


def test_samples_prepared_in_another_way_are_said():
    run, record = make("a", "m", 1.0)
    run = with_settings(run, **{"inputs:transform": "crop=0.5"})
    assert name((run, {**record, "id": run.spec.id})) == "imagenet-quick-transform=crop=0.5"


def test_many_settings_are_a_bounded_name():
    long = name(make("a", "m", 1.0, **{f"setting{i}": i for i in range(60)}))
    assert len(long) <= 150 and long != name(make("a", "m", 1.0, **{f"setting{i}": i + 1 for i in range(60)}))


def test_the_row_says_it_too():
    shown = table(make("fake", "a", 70.0, steps=1))
    assert texts(shown)[0][1] == "fake [steps=1]" and shown.numbers[0]["method"] == "fake [steps=1]"
