"""What the names in a checkpoint become: objects that do nothing, and the few functions that build what is plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Inert(dict):
    """An object of a class that is not built here: `origin` names the class, the entries are what was stored of it."""

    origin = ""
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, *arguments: Any, **_: Any) -> None:
        """Called by the file with anything; a mapping given is kept."""
        super().__init__(arguments[0] if arguments and isinstance(arguments[0], dict) else {})

    def __setstate__(self, state: Any) -> None:
        """Keep attributes, of `__dict__` and of slots."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.update(part)

    def __repr__(self) -> str:
        """Without its entries, which may be in each other."""
        return f"<{self.origin}>"

    def __call__(self, *_: Any) -> Inert:
        """What a stored function would have given: another one that does nothing."""
        return Inert()

    def append(self, item: Any) -> None:
        """Take the part of a list and keep nothing."""

    add = extend = append


class Large(Inert):
    """A tensor that would show far more numbers than the file has."""

    origin = "large"


class Made:
    """A function that a file may call; it cannot be changed by the file."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        """What the function gives."""
        return self._make(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ValueError("it changes a function")


def again(function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    """A tensor of a class of its own, as the plain tensor in it."""
    if not isinstance(function, Made) or not isinstance(arguments, tuple):
        raise ValueError("it has a tensor of an unknown kind")
    return function(*arguments)


def listed(items: Any = ()) -> Any:
    """A set's items as they are stored: a copy of each could be asked for a million times."""
    return items if isinstance(items, list | tuple) else []
