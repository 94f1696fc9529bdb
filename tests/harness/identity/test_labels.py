"""Labels follow from the settings that differ, as they are typed."""

import pytest

from aiqvit.harness.identity.labels import label, variant
from aiqvit.harness.launch.options import choose_methods

DEFAULTS = {"steps": 5, "rate": 1e-3, "curriculum": True, "ranks": (1, 2), "memory": None}


@pytest.mark.parametrize(("changed", "text"), [
    ({}, ""), ({"ranks": [1, 2]}, ""), ({"curriculum": False}, "curriculum=off"), ({"memory": 8}, "memory=8"),
    ({"ranks": (20, 60), "steps": 9}, "steps=9,ranks=20,60"), ({"rate": 0.01}, "rate=0.01"),
], ids=str)
def test_what_differs_in_the_order_of_the_fields(changed, text):
    settings = {**DEFAULTS, **changed}
    assert variant(settings, DEFAULTS) == text
    assert label("Toy", settings, DEFAULTS) == (f"Toy [{text}]" if text else "Toy")


def test_fields_of_another_version_and_those_left_out_are_not_in_it():
    assert variant({"steps": 9, "new": 1}, {"steps": 5, "old": 2}) == "steps=9"
    assert variant({"steps": 9, "rate": 1.0}, {"steps": 5, "rate": 2.0}, {"steps"}) == "rate=1.0"


@pytest.mark.usefixtures("methods")
def test_a_label_can_be_typed_as_a_variant():
    typed = "curriculum=off,ranks=3,4,memory=8"
    choice, again = choose_methods(f"toy[ranks=3,4,curriculum=off,memory=8],toy[{typed}]")
    built = vars(choice.build("quick"))
    assert variant(built, choice.defaults("quick")) == typed and built == vars(again.build("quick"))
