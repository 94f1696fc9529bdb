"""What every method keeps on a mini model is what it kept, within what threads and processors change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from aiqvit.registry import METHODS
from tests import reference
from tests.reference import Row

AGAIN = "python -m tests.reference"
ROWS = reference.rows()
NAMES = METHODS.names()


def faults(method: str, rows: Sequence[Row], found: Sequence[Row]) -> list[str]:
    """What is wrong with the rows of a method, given what it does now."""
    if not rows:
        return [f"the method {method!r} has no row in tests/reference.csv: {AGAIN} {method}"]
    now = {row.bits: row for row in found}
    if now.keys() != {row.bits for row in rows}:
        return [f"other bit widths than in tests/reference.csv: {AGAIN} {method}"]
    wrong = []
    for row in rows:
        right, of, version = now[row.bits].right, now[row.bits].of, now[row.bits].version
        if version != row.version:
            wrong.append(f"the row is of {row.version!r}, today's is {version!r}: regenerate it with {AGAIN} {method}")
        elif of != row.of or abs(right - row.right) > row.tolerance:
            wrong.append(f"{method} {row.bits}: {right} of {of} right instead of {row.right} +- {row.tolerance} of "
                         f"{row.of}. Numbers moved and no version was raised: if that is meant, raise the version of "
                         f"the method, the task or the engine, then regenerate: {AGAIN}")
    return wrong


@pytest.mark.parametrize("method", NAMES)
def test_numbers_stay_or_a_version_is_raised(method):
    mine = [row for row in ROWS if row.method == method]
    found = list(reference.measured(method, mine[0].settings)) if mine else []
    assert not (wrong := faults(method, mine, found)), "\n".join(wrong)


def test_there_are_no_rows_of_methods_that_are_gone():
    gone = {row.method for row in ROWS} - set(NAMES)
    assert not gone, f"no such methods: {', '.join(sorted(gone))}; regenerate: {AGAIN}"


def test_rows_are_sharp_enough_to_find_something():
    assert all(row.tolerance <= row.of // 10 for row in ROWS)
    assert all({row.bits for row in ROWS if row.method == name} == set(reference.BITS) for name in NAMES
               if name != "fp32")


ROW = Row("m", "", "mini_vit", "3/3", "quick", "method 1, task 1, engine 1", 100, 300, 5)


@pytest.mark.parametrize(("rows", "change", "message"), [
    ([ROW], {"right": 105}, ""), ([ROW], {"right": 95}, ""),
    ([ROW], {"right": 106}, "106 of 300 right instead of 100 .*raise the version"),
    ([ROW], {"right": 94}, "Numbers moved and no version was raised"), ([ROW], {"of": 301}, "Numbers moved"),
    ([ROW], {"version": "method 2, task 1, engine 1"}, "today's is 'method 2, task 1, engine 1': regenerate"),
    ([], {}, "'m' has no row in tests/reference.csv: python -m tests.reference m"),
    ([ROW], {"bits": "4/4"}, "other bit widths"),
], ids=str)
def test_what_is_found(rows, change, message):
    wrong = faults("m", rows, [replace(ROW, **change)])
    if message:
        with pytest.raises(AssertionError, match=message):
            raise AssertionError("\n".join(wrong))
    else:
        assert wrong == []
