"""A reader of pickled checkpoints that makes tensors and plain containers, and nothing of what else they name.

`torch.load(..., weights_only=True)` refuses a whole file for one `argparse.Namespace` beside the weights, for a
dictionary of a class of its own, and for newer pickle protocols. Here a name in the file never leads to an import: it
is one of `MADE`, which build tensors and containers, or it becomes an `Inert`, a dictionary that does nothing and holds
what was stored. So whatever the file says, only functions of this module and of the tensor library's rebuilding run.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch


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

    def __call__(self, *_: Any) -> Inert:
        """What a stored function would have given: another one that does nothing."""
        return Inert()

    def append(self, item: Any) -> None:
        """Take the part of a list and keep nothing."""

    add = extend = append


class _Made:
    """A function that a file may call; it cannot be changed by the file."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, torch.storage.TypedStorage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("it has a tensor without numbers")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 not in tuple(size) and last >= storage._size():
        raise pickle.UnpicklingError("it has a tensor beyond its numbers")
    return torch._utils._rebuild_tensor(storage, offset, tuple(size), tuple(stride))


def _again(function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    if not isinstance(function, _Made):
        raise pickle.UnpicklingError("it has a tensor of an unknown kind")
    return function(*arguments)


MADE: dict[tuple[str, str], Callable] = {
    ("collections", "OrderedDict"): lambda *_: OrderedDict(),
    ("collections", "defaultdict"): lambda *_: {},
    ("collections", "Counter"): lambda *_: {},
    ("builtins", "dict"): lambda *_: {},
    ("builtins", "set"): lambda items=(): list(items),
    ("builtins", "frozenset"): lambda items=(): tuple(items),
    ("torch", "Size"): lambda items=(): tuple(items),
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type_v2"): _again,
}


class Unpickler(pickle.Unpickler):
    """What `torch.load` calls in place of Python's; its `find_class` imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """A function of `MADE`, or a new class of inert objects."""
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) in MADE:
            return _Made(MADE[module, name])
        return type("Inert", (Inert,), {"origin": f"{module}.{name}"})


def load(file: Any, **options: Any) -> Any:
    """The next object of a file (`torch.load` asks for this beside `Unpickler`)."""
    return Unpickler(file, **options).load()


def whole_module(value: Any) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a network that was stored as an object (`torch.save(model)`), by their names."""
    found: dict[str, torch.Tensor] = {}

    def visit(module: Any, prefix: str, depth: int) -> None:
        if not isinstance(module, Inert) or depth > 50:
            return
        gone = module.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _entries(module, kind):
                if isinstance(tensor, torch.Tensor) and name not in gone:
                    found[prefix + str(name)] = tensor
        for name, child in _entries(module, "_modules"):
            visit(child, f"{prefix}{name}.", depth + 1)

    visit(value, "", 0)
    return found


def _entries(module: Inert, kind: str) -> list[tuple[Any, Any]]:
    entries = module.get(kind)
    return list(entries.items()) if isinstance(entries, dict) else []
