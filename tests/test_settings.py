"""Settings and flags have bounds, wherever they are set, and the message has them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import pytest
from annotated_types import Interval
from hypothesis import given
from hypothesis import strategies as st

from aiqvit.bounds import Count, Finite, Fractions, Part, Ranks, Share
from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Method, UserError
from aiqvit.registry import METHODS
from aiqvit.settings import bounded, fitting, kinds, read, typed, words

NO_NUMBERS = ("nan", "inf", "-inf", "1e309", "1" + "0" * 30, "-1", "", "1_0", "\u0663", "\uff11", "0x10", "1e", "+",
              "--", "1 2", "9" * 5000, "\x1b[31m", "\u00bd", "2147483648")
FIELDS = [(name, field) for name in METHODS.names() for field, kind in kinds(METHODS.get(name)).items()
          if not words(kind).startswith(("on or off", "a text")) and " or " not in words(kind)]


@dataclass(frozen=True)
class Third(Method):
    """Of a package that knows no bounds, and sets a default that nobody can type."""

    title = "Third"
    images: int = 3
    axis: int = -1
    rate: float = 0.5
    kinds: tuple[int, ...] = (1,)
    memory: int | None = None
    share: Annotated[float, Interval(gt=0, lt=0.5)] = 0.1


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_no_field_takes_what_is_no_number_of_its_range(name, field):
    for text in NO_NUMBERS:
        with pytest.raises(UserError, match=rf"^method '{name}': {field}=.*: expected ") as error:
            choose_methods(f"{name}[{field}={text}]")
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", METHODS.names())
def test_defaults_and_presets_fit(name):
    cls = METHODS.get(name)
    for preset in ({}, *cls.presets.values()):
        method = cls(**preset)
        for field, kind in kinds(cls).items():
            assert fitting(kind, getattr(method, field)) == getattr(method, field)


@pytest.mark.parametrize(("expression", "message"), [
    ("minmax[images=-1]", "images=-1: expected a whole number from 1 to 2147483647"),
    ("minmax[images=0]", "expected a whole number from 1"), ("aiqvit[steps=-1]", "expected a whole number from 0"),
    ("ptq4vit[rounds=0]", "rounds=0: expected a whole number from 1 to 10000"),
    ("qdrop[drop=-0.5]", "method 'qdrop': drop=-0.5: expected a number from 0 to 1"),
    ("isvit[rate=-0.5]", "rate=-0.5: expected a number from 0 to 10"), ("aiqvit[memory_gb=-1]", "expected a number"),
    ("aiqvit[refresh=0]", "expected a whole number from 1"), ("apqvit[rho=1]", "of at least 0 and below 1"),
    ("aiqvit[ranks=0,4]", "ranks=0,4: expected 1 to 32 of: a whole number from 1 to 65536"),
    ("aiqvit[ranks=]", "expected 1 to 32 of"), ("aiqvit[ranks=4,,8]", "expected 1 to 32 of"),
    ("repqvit[fractions=0.4]", "a number above 0.5 and at most 1"), ("aiqvit[pace_start=0]", "above 0 and at most 1"),
    ("minmax[images=1 2]", "images=1 2: expected"),
])
def test_the_message_has_the_bound(expression, message):
    with pytest.raises(UserError) as error:
        choose_methods(expression)
    assert message in str(error.value)


@pytest.mark.parametrize(("name", "wrong"), [
    ("minmax", {"images": -1}), ("minmax", {"images": 2.0}), ("minmax", {"images": True}), ("minmax", {"images": "8"}),
    ("qdrop", {"drop": math.nan}), ("aiqvit", {"ranks": (0,)}), ("aiqvit", {"ranks": 20}), ("aiqvit", {"loss": "l1"}),
    ("ptq4vit", {"start": 1.2}), ("apqvit", {"start": 2.0, "end": 1.0}),
])
def test_methods_made_in_python_are_checked_too(name, wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))}=.*: expected "):
        METHODS.get(name)(**wrong)


def test_a_type_without_bounds_has_those_of_any_number_when_typed_and_must_be_finite():
    assert Third() == Third(axis=-1) and Third(axis=-2).axis == -2
    with pytest.raises(UserError, match="rate=inf: expected a number"):
        Third(rate=math.inf)
    with pytest.raises(UserError, match="share=0.5: expected a number above 0 and below 0.5"):
        Third(share=0.5)
    for field, text in (("axis", "-1"), ("rate", "nan"), ("kinds", "1,-2"), ("memory", "-1"), ("kinds", "1.5")):
        with pytest.raises(ValueError, match="expected "):
            read(bounded(kinds(Third)[field]), text)
    assert read(bounded(kinds(Third)["memory"]), "none") is None


@pytest.mark.parametrize(("kind", "text"), [
    (Count, "a whole number from 1 to 2147483647"), (Share, "a number from 0 to 1"), (Finite, "a number"),
    (Part, "a number above 0 and at most 1"), (bool, "on or off"), (Literal["a", "b", "c"], "a, b or c"),
    (Ranks, "1 to 32 of: a whole number from 1 to 65536"),
    (Count | None, "a whole number from 1 to 2147483647 or none"),
    (bounded(tuple[int, ...]), "a comma list of: a whole number from 0 to 2147483647"),
])
def test_types_in_words(kind, text):
    assert words(kind) == text


@given(st.text(max_size=12), st.sampled_from([Count, Share, Finite, Ranks, Fractions, bool, int | None, float]))
def test_any_text_is_read_or_refused_in_words(text, kind):
    try:
        value = read(bounded(kind), text)
    except ValueError as error:
        assert str(error) == f"expected {words(bounded(kind))}"
    else:
        assert read(bounded(kind), typed(value)) == value


def test_all_settings_of_all_methods_are_listed_with_what_they_may_be(capsys):
    from aiqvit import listing

    listing.show()
    shown = capsys.readouterr().out
    for name in METHODS.names():
        assert all(f"      {f.name}={typed(f.default)} " in shown for f in fields(METHODS.get(name)))
    assert "drop=0.5                       a number from 0 to 1\n" in shown


@pytest.mark.parametrize("text", ["1e-400", "0.001e-999", ".5e-2000"])
def test_a_number_that_python_reads_as_0_is_refused(text):
    with pytest.raises(ValueError, match="expected a number"):
        read(float, text)
    assert read(float, "0.0e-400") == read(float, "-0") == 0
