"""What a class must be before it is listed or run: a method or a task of another package may be anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from aiqvit.interfaces import Method, Task, UserError
from aiqvit.plugins import reason
from aiqvit.settings import kinds

LONGEST = 500  # characters of a title, a note and the like


def fault(cls: Any, base: type, examine: Callable[[Any], str]) -> str:
    """Why a class cannot be used, empty when it can: no subclass of `base`, or what `examine` says of it."""
    try:
        if not (isinstance(cls, type) and issubclass(cls, base)):
            return f"{cls!r} is not a subclass of {base.__name__}"
        return examine(cls)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a metaclass, a descriptor or a constructor may raise anything
        return f"examining it ended in {reason(error)}"


def method_fault(cls: type[Method]) -> str:
    """What is wrong with a method; empty when nothing is."""
    if not is_dataclass(cls):
        return "it is not a dataclass"
    if missing := [name for name in ("title", "images") if not hasattr(cls, name)]:
        return f"it has no {missing[0]!r}"
    own = {f.name: f.default for f in fields(cls) if f.init}
    if missing := [name for name, default in own.items() if default is MISSING]:
        return f"its field {missing[0]!r} has no default"
    kinds(cls)  # raises where a type cannot be resolved
    facts = (
        ("title", _text(cls.title) and cls.title.strip() and not set(cls.title) & set("[]^"),
         "printable text without brackets"),
        ("note", _text(cls.note), "printable text"),
        ("fairness", _text(cls.fairness), "printable text"),
        ("version", type(cls.version) is int, "a whole number"),
        ("images", type(own.get("images")) is int and own["images"] >= 0, "a field, a whole number of at least 0"),
        ("presets", _table(cls.presets) and all(isinstance(p, dict) and p.keys() <= own.keys() for p in
                                                 cls.presets.values()), "a dict of dicts of its own fields"),
        ("grids", _table(cls.grids) and all(isinstance(g, tuple) and all(map(_text, g)) for g in cls.grids.values()),
         "a dict of tuples of text"),
    )
    if wrong := next((f"{name!r} must be {what}" for name, good, what in facts if not good), ""):
        return f"its {wrong}"
    values = [*own.items(), *(pair for preset in cls.presets.values() for pair in preset.items())]
    if strange := [name for name, value in values if not _plain(value)]:
        return f"its {strange[0]!r} must be finite numbers, text or tuples of these"
    for preset in ({}, *cls.presets.values()):
        cls(**preset)  # raises for what does not fit
    return ""


def task_fault(cls: type[Task]) -> str:
    """What is wrong with a task; empty when nothing is."""
    if cls.__abstractmethods__:
        return f"it does not implement {', '.join(sorted(cls.__abstractmethods__))}"
    if missing := [name for name in ("name", "metrics", "folder") if not hasattr(cls, name)]:
        return f"it has no {missing[0]!r}"
    facts = (
        ("name", _text(cls.name) and cls.name.strip(), "printable text"),
        ("folder", _text(cls.folder), "printable text"),
        ("metrics", cls.metrics and isinstance(cls.metrics, tuple) and all(map(_text, cls.metrics)), "a tuple of text"),
        ("options", isinstance(cls.options, tuple) and all(map(_text, cls.options)), "a tuple of text"),
        ("headlines", type(cls.headlines) is int and cls.headlines > 0, "a whole number above 0"),
        ("version", type(cls.version) is int, "a whole number"),
    )
    return next((f"its {name!r} must be {what}" for name, good, what in facts if not good), "")


CHECKS: dict[type, Callable[[Any], str]] = {Method: method_fault, Task: task_fault}


def require(cls: Any, base: type) -> None:
    """Raise `UserError` for what is no usable subclass of `base`, a `Method` or a `Task`."""
    if wrong := fault(cls, base, CHECKS[base]):
        raise UserError(wrong)


def _text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST


def _table(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_text, value))


def _plain(value: Any) -> bool:
    """Whether a record can hold a setting."""
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | str) or isinstance(value, float) and math.isfinite(value)
