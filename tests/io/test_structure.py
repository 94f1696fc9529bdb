"""Values of files of others, within a depth and by a schema."""

from typing import Annotated

import pytest
from annotated_types import Ge
from typing_extensions import TypedDict

from aiqvit.io.structure import checked, parse_json


class Entry(TypedDict):
    count: Annotated[int, Ge(1)]
    names: list[str]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 300 + "]" * 300, "NaN", "[Infinity]", "{", "",
                                  "[1,]", '{"a" 1}', "1e", "\ud800"])
def test_what_is_no_json_here(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_values_stay_what_they_are():
    assert parse_json('{"a": [1, 2.5, "x", null, true], "b": 123456789012345678901234567890}') == {
        "a": [1, 2.5, "x", None, True], "b": 123456789012345678901234567890}


@pytest.mark.parametrize(("value", "message"), [
    ({"count": "1", "names": []}, "count: input should be a valid integer"),
    ({"count": True, "names": []}, "count: input should be a valid integer"),
    ({"count": 0, "names": []}, "count: input should be greater than or equal to 1"),
    ({"count": 1}, "names: field required"),
    ({"count": 0, "names": [1, 2]}, "count: .* .and 2 more faults."),
    ([], "valid dictionary")])
def test_a_fault_is_a_sentence_with_its_place(value, message):
    with pytest.raises(ValueError, match=message):
        checked(value, Entry)
