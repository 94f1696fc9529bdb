"""What the code of a method's authors has and `unified` has not stands below every table with its rows."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from aiqvit.interfaces import Method
from aiqvit.report import page, paper
from aiqvit.report.footer import fairness
from aiqvit.report.records import About, parts
from aiqvit.report.writers import FORMATS, write
from tests.report.make_records import record
from tests.report.test_tables import make, table

KNOWN = {"minmax": About("MinMax"), "tokens": About("Tokens", "", "a scale a token")}
UNIFIED = "fairness: Tokens as published has a scale a token; not so here, unless its settings say so"
PAPER = "fairness: Tokens as published has a scale a token; here too, under protocol paper"


@dataclass(frozen=True)
class Tokens(Method):
    title: ClassVar[str] = "Tokens"
    fairness: ClassVar[str] = "a scale a token"
    protocol: str = "unified"
    images: int = 8


def labelled(*args, **settings):
    """A record as it is read from a folder."""
    made = record(*args, **settings)
    return made | {"label": made["spec"]["method"], "stale": False, "unlike": 0, "newer": False}


def test_it_is_said_once_for_a_method_and_a_protocol():
    shown = [("Tokens", "a scale a token", "unified"), ("MinMax", "", "paper"),
             ("Tokens", "a scale a token", "unified"), ("Tokens", "a scale a token", "paper")]
    assert fairness(shown) == [UNIFIED, PAPER]


@pytest.mark.parametrize("kind", FORMATS)
def test_it_stands_below_tables_of_a_bench(kind):
    run, made = make("tokens", "a", 70.0)
    object.__setattr__(run, "method", Tokens(protocol="paper"))
    shown = table((run, made), make("minmax", "a", 60.0))
    assert PAPER in shown.notes and UNIFIED not in shown.notes
    assert ("here too, under protocol paper" in write(shown, kind)) == (kind != "csv")


def test_it_stands_below_tables_of_a_paper_and_on_the_page():
    (part,) = parts([labelled("fp32", "deit_small", {"top1": 80.0}), labelled("tokens", "deit_small", {"top1": 70.0}),
                     labelled("minmax", "deit_small", {"top1": 60.0})])
    assert UNIFIED in paper.ours(1, part, KNOWN).notes
    pytest.importorskip("matplotlib")
    assert page.render("t", [part], KNOWN).count("a scale a token") == 1


def test_nothing_is_said_where_no_row_of_the_method_stands():
    (part,) = parts([labelled("minmax", "deit_small", {"top1": 60.0})])
    assert not [note for note in paper.ours(1, part, KNOWN).notes if note.startswith("fairness")]
