"""Settings and flags by the types of their fields: read from text, checked against their bounds, put into words."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen

from aiqvit.bounds import Finite, Number, Whole
from aiqvit.interfaces import Method, UserError

SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
SHOWN = 80  # characters of a wrong value in a message


def kinds(cls: type) -> dict[str, Any]:
    """Field of a dataclass that can be set -> its type with bounds. Raises `NameError` and the like for a wrong one."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in fields(cls) if f.init}


def bounded(kind: Any, whole: Any = Whole, number: Any = Number) -> Any:
    """The type with `whole` and `number` in place of plain int and float, also in tuples and unions."""
    if kind in (int, float):
        return whole if kind is int else number
    if get_origin(kind) is tuple:
        return tuple[tuple(arg if arg is ... else bounded(arg, whole, number) for arg in get_args(kind))]
    if get_origin(kind) in (Union, types.UnionType):
        return Union[tuple(bounded(arg, whole, number) for arg in get_args(kind))]  # noqa: UP007
    return kind


def read(kind: Any, text: str) -> Any:
    """`text` as a bool, int, float, str, tuple of these, Literal or Optional, within its bounds.

    Numbers are in ASCII digits. Raises `ValueError` for anything else; its message is what was expected.
    """
    try:
        value = _convert(kind, text.strip())
    except (ValueError, KeyError) as error:
        raise ValueError(f"expected {words(kind)}") from error
    return fitting(kind, value)


def fitting(kind: Any, value: Any) -> Any:
    """The value, which is of the type and within its bounds. Raises `ValueError`, whose message is what was expected.

    A type that says nothing of values, such as a class of a package of its own, takes all of them.
    """
    from aiqvit.io.structure import checked  # here, because pydantic is slow to import

    try:
        return checked(value, kind)
    except ValueError as error:
        raise ValueError(f"expected {words(kind)}") from error
    except Exception:
        return value


def values(method: Method) -> dict[str, Any]:
    """Field -> value of a method. The switches of every method stand there only where they are on, or usually are."""
    found = {f.name: getattr(method, f.name) for f in fields(method)}
    off = [f.name for f in fields(method) if f.kw_only and f.default is found[f.name] is False]
    return {name: value for name, value in found.items() if name not in off}


def check_fields(instance: Any) -> None:
    """Raise `UserError` for the first field that has not its default and does not fit its type."""
    known = kinds(type(instance))
    for f in fields(instance):
        value = getattr(instance, f.name)
        if f.name in known and value is not f.default:
            check(f.name, bounded(known[f.name], int, Finite), value)


def check(name: str, kind: Any, value: Any) -> None:
    """Raise `UserError` for a value that does not fit the type."""
    try:
        fitting(kind, value)
    except ValueError as error:
        raise UserError(f"{name}={typed(value)[:SHOWN]}: {error}") from error


def typed(value: Any) -> str:
    """A value as it is typed: `on`, `none`, `20,40`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ",".join(map(typed, value))
    return "none" if value is None else str(value)


def words(kind: Any) -> str:
    """What a type takes: `a whole number from 1 to 8`, `mse or token`, `on or off`."""
    marks: list[Any] = []
    if get_origin(kind) is Annotated:
        kind, marks = get_args(kind)[0], list(_single(get_args(kind)[1:]))
    origin, args = get_origin(kind), get_args(kind)
    if kind in (int, float):
        return ("a whole number" if kind is int else "a number") + _range(marks)
    if origin is Literal:
        names = [str(a) for a in args]
        return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    if origin is tuple:
        length = {type(mark): mark for mark in marks}
        least, most = length.get(MinLen), length.get(MaxLen)
        count = f"{least.min_length if least else 0} to {most.max_length}" if most else "a comma list"
        return f"{count} of: {words(args[0])}" if args else count
    if origin in (Union, types.UnionType):
        return " or ".join("none" if a is type(None) else words(a) for a in args)
    return {bool: "on or off", str: "a text"}.get(kind, kind.__name__ if isinstance(kind, type) else str(kind))


def _convert(kind: Any, text: str) -> Any:
    """Raises ValueError or KeyError."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    origin, args = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        if type(None) in args and text.lower() == "none":
            return None
        return _convert(next(a for a in args if a is not type(None)), text)
    if origin is Literal:
        return {str(a): a for a in args}[text]
    if origin is tuple:
        inside = text.removeprefix("(").removesuffix(")").strip()
        return tuple(_convert(args[0], part.strip()) for part in inside.split(",")) if inside else ()
    if kind is bool:
        return SWITCH[text.lower()]
    if kind is str or kind is int and WHOLE.fullmatch(text) or kind is float and DECIMAL.fullmatch(text):
        value = kind(text)
        if value or not re.match(r"[+-]?[0.]*[1-9]", text):  # 1e-400 is not 0, though Python reads it so
            return value
    raise ValueError(f"not of type {kind}")


def _single(marks: tuple) -> Iterator[Any]:
    for mark in marks:
        yield from mark if isinstance(mark, GroupedMetadata) else (mark,)


def _range(marks: list[Any]) -> str:
    by = {type(mark): mark for mark in marks}
    if Ge in by and Le in by:
        return f" from {by[Ge].ge} to {by[Le].le}"
    names = ((Ge, "ge", "of at least"), (Gt, "gt", "above"), (Le, "le", "at most"), (Lt, "lt", "below"))
    parts = [f"{text} {getattr(by[kind], name)}" for kind, name, text in names if kind in by]
    return " " + " and ".join(parts) if parts and "inf" not in " ".join(parts) else ""
