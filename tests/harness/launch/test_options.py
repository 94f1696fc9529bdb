"""Names, globs, variants and settings."""

import pytest

from aiqvit.harness.launch.options import choose_methods, grid_methods, split
from aiqvit.interfaces import UserError

pytestmark = pytest.mark.usefixtures("methods")


def test_split_keeps_brackets_together():
    assert split("a, b[x=1,y=2,3],c") == ["a", "b[x=1,y=2,3]", "c"]
    with pytest.raises(UserError, match="empty list"):
        split(" , ")


def test_names_globs_and_all():
    assert [c.name for c in choose_methods("toy,f*,toy")] == ["toy", "fp32"]
    assert [c.name for c in choose_methods("all")] == ["fp32", "toy", "breaks", "nan"]


def test_variant_sets_typed_fields_over_the_preset():
    (choice,) = choose_methods("toy[curriculum=off,steps=7,rate=1e-2,loss=frobenius,ranks=3,4,5,memory=8]")
    method = choice.build("quick")
    assert (method.curriculum, method.steps, method.rate, method.loss) == (False, 7, 0.01, "frobenius")
    assert (method.ranks, method.memory) == ((3, 4, 5), 8)
    assert choose_methods("toy[memory=none]")[0].build("quick").memory is None


def test_preset_then_set_then_variant_and_calib():
    plain, variant = choose_methods("toy,toy[steps=9]", ["steps=8"], calib=11)
    assert choose_methods("toy")[0].build("quick").steps == 2
    assert (plain.build("quick").steps, variant.build("quick").steps) == (8, 9)
    assert plain.build("quick").images == 11


def test_set_applies_to_the_methods_that_have_the_field():
    toy, breaks = choose_methods("toy,breaks", ["curriculum=false"])
    assert toy.build("paper").curriculum is False
    assert breaks.changed == {}


@pytest.mark.parametrize(
    ("expression", "settings", "message"),
    [
        ("toi", [], "unknown method 'toi': did you mean 'toy'"),
        ("toy[step=3]", [], "unknown setting of Toy 'step': did you mean 'steps'"),
        ("toy[steps=many]", [], "steps=many: expected a whole number"),
        ("toy[curriculum=maybe]", [], "curriculum=maybe: expected on or off"),
        ("toy[loss=l1]", [], "loss=l1: expected"),
        ("toy[steps]", [], "expected key=value"),
        ("toy[steps=3", [], "expected NAME or NAME"),
        ("breaks", ["curriculum=on"], "unknown setting 'curriculum'"),
        ("toy", ["curriculum"], "expected key=value"),
    ],
)
def test_wrong_input(expression, settings, message):
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        choose_methods(expression, settings)


def test_value_that_the_method_refuses():
    (choice,) = choose_methods("toy[steps=13]")
    with pytest.raises(UserError, match="method 'toy': steps must not be 13"):
        choice.build("quick")


def test_limits_bound_defaults_and_0_is_all_but_for_images():
    plain, typed = choose_methods("toy,toy[steps=9]")
    assert plain.build("paper", {"steps": 4, "images": 2, "other": 1}).steps == 4
    assert plain.build("smoke", {"steps": 4}).steps == 1
    assert typed.build("paper", {"steps": 4}).steps == 9
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plain.method.presets, "quick", {"steps": 0, "images": 0})
        assert plain.defaults("quick", {"steps": 4, "images": 2}) | {} == plain.defaults("quick") | {"steps": 4}


def test_a_grid_stands_for_variants_of_its_method(monkeypatch):
    from aiqvit.registry import METHODS

    monkeypatch.setattr(METHODS.get("toy"), "grids", {"halves": ("", "curriculum=off", "steps=3,ranks=1,2")})
    assert grid_methods("halves") == "toy,toy[curriculum=off],toy[steps=3,ranks=1,2]"
    assert [c.changed for c in choose_methods(grid_methods("halves"))] == [
        {}, {"curriculum": False}, {"steps": 3, "ranks": (1, 2)}]
    with pytest.raises(UserError, match="unknown grid 'halvs': did you mean 'halves'"):
        grid_methods("halvs")
