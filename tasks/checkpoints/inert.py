"""A reader of pickled checkpoints that makes tensors and plain containers, and nothing of what else they name.

`torch.load(..., weights_only=True)` refuses a whole file for one `argparse.Namespace` beside the weights, for a
dictionary of a class of its own, and for newer pickle protocols. Here a name in the file never leads to an import: it
is one of `Unpickler.made`, which build tensors and containers, or it becomes an `Inert`, a dictionary that does nothing
and holds what was stored. So whatever the file says, only functions of this module and of the tensor library's
rebuilding run, and `aiqvit.tasks.checkpoints.bounds` says how much they may take.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from aiqvit.tasks.checkpoints.bounds import Allowance


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


class _Made:
    """A function that a file may call; it cannot be changed by the file."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


def _again(function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    if not isinstance(function, _Made):
        raise pickle.UnpicklingError("it has a tensor of an unknown kind")
    return function(*arguments)


def _listed(items: Any = ()) -> Any:
    """A set's items as they are stored: a copy of each could be asked for a million times."""
    return items if isinstance(items, list | tuple) else []


class Unpickler(pickle._Unpickler):
    """What `torch.load` calls in place of Python's; its `find_class` imports nothing, its steps are counted.

    It is Python's own in Python: that in C takes memory for what a file only announces.
    """

    def __init__(self, file: Any, allowance: Allowance, **options: Any) -> None:
        super().__init__(file, **options)
        self.allowance = allowance
        self.made: dict[tuple[str, str], Callable] = {
            ("collections", "OrderedDict"): lambda *_: OrderedDict(),
            ("collections", "defaultdict"): lambda *_: {},
            ("collections", "Counter"): lambda *_: {},
            ("builtins", "dict"): lambda *_: {},
            ("builtins", "set"): _listed,
            ("builtins", "frozenset"): _listed,
            ("torch", "Size"): _listed,
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
            ("torch._tensor", "_rebuild_from_type_v2"): _again,
        }

    def find_class(self, module: str, name: str) -> Any:
        """A function of `made`, or a new class of inert objects."""
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) in self.made:
            return _Made(self.made[module, name])
        self.allowance.step(100)  # a class is large
        return type("Inert", (Inert,), {"origin": f"{module}.{name}"})

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
        if not isinstance(storage, torch.storage.TypedStorage):
            raise pickle.UnpicklingError("it has a tensor without numbers")
        self.allowance.view(storage, offset, size, stride)
        return torch._utils._rebuild_tensor(storage, offset, tuple(size), tuple(stride))

    def load_binpersid(self) -> None:
        """A storage, or the class of a module, of which old files also have the source."""
        what = self.stack.pop()
        if not isinstance(what, tuple) or len(what) < 2:
            raise pickle.UnpicklingError("it has numbers without a name")
        if what[0] in ("module", b"module"):
            self.append(what[1])
            return
        self.allowance.storage(what)
        self.append(self.persistent_load(what))

    def load_persid(self) -> None:
        """A storage by a name without a size, which no torch writes."""
        raise pickle.UnpicklingError("it has numbers without a size")

    def load_reduce(self) -> None:
        """A call. What it may copy is counted."""
        self.allowance.step(_size(self.stack[-1]) + sum(map(_size, self.stack[-1][:2])))
        super().load_reduce()

    def load_newobj(self) -> None:
        """A new object."""
        self.allowance.step(_size(self.stack[-1]))
        super().load_newobj()

    def load_build(self) -> None:
        """The state of an object: kept of inert ones, passed over of dictionaries, refused of all others."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Inert):
            self.allowance.step(sum(map(_size, state)) if isinstance(state, tuple) else _size(state))
            self.stack[-1].__setstate__(state)
        elif not isinstance(self.stack[-1], dict | list):
            raise pickle.UnpicklingError("it changes a function")

    def load_setitem(self) -> None:
        """An entry of a dictionary."""
        self.allowance.key(self.stack[-2])
        self._check_dict(self.stack[-3])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Entries of a dictionary."""
        for key in self.stack[::2]:
            self.allowance.key(key)
        self._check_dict(self.metastack[-1][-1])
        super().load_setitems()

    def _check_dict(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise pickle.UnpicklingError("it has entries of what is no dictionary")

    def load_dict(self) -> None:
        """A dictionary, in the oldest protocol."""
        for key in self.stack[::2]:
            self.allowance.key(key)
        super().load_dict()

    def load_empty_set(self) -> None:
        """A set becomes a list."""
        self.append([])

    def load_additems(self) -> None:
        """Items of a set."""
        self.load_appends()

    def load_frozenset(self) -> None:
        """A frozen set becomes a tuple."""
        items = tuple(self.pop_mark())  # which changes what `append` appends to
        self.append(items)

    def load_bytearray8(self) -> None:
        """Bytes, as many as are there."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))


def _size(value: Any) -> int:
    return len(value) if isinstance(value, list | tuple | dict | str | bytes) else 1


def _dispatch() -> dict[int, Callable]:
    """Each opcode as a counted step."""
    def counted(load: Callable) -> Callable:
        def step(self: Unpickler) -> None:
            self.allowance.step(1)
            load(self)

        return step

    return {code: counted(getattr(Unpickler, load.__name__)) for code, load in pickle._Unpickler.dispatch.items()}


Unpickler.dispatch = _dispatch()


def reader(allowance: Allowance) -> SimpleNamespace:
    """What `torch.load` takes for a module like `pickle`, reading within an allowance."""
    class Bounded(Unpickler):
        def __init__(self, file: Any, **options: Any) -> None:
            super().__init__(file, allowance, **options)

    def load(file: Any, **options: Any) -> Any:
        allowance.last = Bounded(file, **options).load()
        return allowance.last

    return SimpleNamespace(__name__="inert", Unpickler=Bounded, load=load)
