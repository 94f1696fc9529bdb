"""Values from files of others: parsed within a depth, then checked against a schema; a fault is one sentence."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json


def parse_json(text: str | bytes, nan: bool = False) -> Any:
    """The value of a JSON text.

    Raises `ValueError` for what is no JSON, for NaN and Infinity unless `nan`, and for lists nested some 200 levels
    deep.
    """
    return from_json(text.encode() if isinstance(text, str) else text, allow_inf_nan=nan)


def checked(value: Any, schema: Any) -> Any:
    """The value as `schema` (a type with pydantic's constraints) takes it: no text becomes a number or the reverse.

    Raises `ValueError` with where the first fault is and what is expected there.
    """
    try:
        return _adapter(schema).validate_python(value, strict=True)
    except ValidationError as error:
        raise ValueError(sentence(error)) from error


def sentence(error: ValidationError) -> str:
    """The first fault of a value, in words: `spec.seed: input should be a valid integer (and 3 more faults)`."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    place = ".".join(str(part)[:80] for part in faults[0]["loc"])
    text = faults[0]["msg"].removeprefix("Value error, ")
    text = f"{text[:1].lower()}{text[1:]}"[:200]
    more = len(faults) - 1
    return (f"{place}: " if place else "") + text + (f" (and {more} more fault{'s' * (more > 1)})" if more else "")


@cache
def _adapter(schema: Any) -> TypeAdapter:
    return TypeAdapter(schema)
