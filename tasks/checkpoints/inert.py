"""A reader of pickled checkpoints that makes tensors and plain containers, and nothing of what else they name.

`torch.load(..., weights_only=True)` refuses a whole file for one `argparse.Namespace` beside the weights, for a
dictionary of a class of its own, and for newer pickle protocols. Here a name in the file never leads to an import: it
is one of `Unpickler.made`, which build tensors and containers, or it becomes an `Inert`, a dictionary that does nothing
and holds what was stored. So whatever the file says, only functions of this package and of the tensor library's
rebuilding run, and `aiqvit.tasks.checkpoints.bounds` says how much they may take.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from aiqvit.tasks.checkpoints.bounds import PICKLE, Allowance
from aiqvit.tasks.checkpoints.objects import Inert, Large, Made, again, listed


class _Counted:
    """A file whose reading is counted before it takes memory."""

    def __init__(self, file: Any, allowance: Allowance) -> None:
        self.file, self.count = file, allowance.read

    def read(self, size: int) -> bytes:
        """As many bytes as are there."""
        self.count(size)
        return self.file.read(size)

    def readline(self) -> bytes:
        """A line, or as much of a long one as may be read."""
        line = self.file.readline(PICKLE)
        self.count(len(line))
        return line


class Unpickler(pickle._Unpickler):
    """What `torch.load` calls in place of Python's; its `find_class` imports nothing, its steps are counted.

    It is Python's own in Python: that in C takes memory for what a file only announces.
    """

    def __init__(self, file: Any, allowance: Allowance, **options: Any) -> None:
        super().__init__(_Counted(file, allowance), **options)
        self.allowance = allowance
        self.made: dict[tuple[str, str], Callable] = {
            ("collections", "OrderedDict"): lambda *_: OrderedDict(),
            ("collections", "defaultdict"): lambda *_: {},
            ("collections", "Counter"): lambda *_: {},
            ("builtins", "dict"): lambda *_: {},
            ("builtins", "set"): listed,
            ("builtins", "frozenset"): listed,
            ("torch", "Size"): listed,
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
            ("torch._tensor", "_rebuild_from_type_v2"): again,
        }

    def find_class(self, module: str, name: str) -> Any:
        """A function of `made`, or a new class of inert objects."""
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return torch.UntypedStorage  # the kind of some numbers; nothing calls it
        if (module, name) in self.made:
            return Made(self.made[module, name])
        self.allowance.step(100)  # a class is large
        return type("Inert", (Inert,), {"origin": f"{module}.{name}"})

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor | Large:
        if not isinstance(storage, torch.storage.TypedStorage):
            raise pickle.UnpicklingError("it has a tensor without numbers")
        if not self.allowance.view(storage, offset, size, stride):
            return Large()
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
        """A call."""
        arguments = self.stack.pop()
        self.stack[-1] = self._called(self.stack[-1], arguments)

    def load_obj(self) -> None:
        """A call, in the oldest protocols."""
        kind, *arguments = self.pop_mark()
        self.append(self._called(kind, tuple(arguments)))

    def load_inst(self) -> None:
        """A call of a function that is named, in the oldest protocol."""
        module, name = (self.readline()[:-1].decode("ascii") for _ in range(2))
        arguments = tuple(self.pop_mark())  # which changes what `append` appends to
        self.append(self._called(self.find_class(module, name), arguments))

    def load_newobj(self) -> None:
        """A new object."""
        arguments, kind = self.stack.pop(), self.stack.pop()
        new = isinstance(kind, type) and issubclass(kind, Inert)
        self.append(self._called(kind, () if new else arguments))

    def load_newobj_ex(self) -> None:
        """A new object with arguments of a name."""
        self.stack.pop()
        self.load_newobj()

    def _called(self, function: Any, arguments: Any) -> Any:
        """What a function of `made` or an inert one gives. What it may copy is counted: containers, not text."""
        inert = isinstance(function, Made | Inert) or (isinstance(function, type) and issubclass(function, Inert))
        if not inert or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("it calls what is no function")
        self.allowance.step(len(arguments) + sum(map(_size, arguments[:3])))
        return function(*arguments)

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
        entry = self.stack[-2:]
        del self.stack[-2:]
        self._fill(entry)

    def load_setitems(self) -> None:
        """Entries of a dictionary."""
        self._fill(self.pop_mark())

    def load_dict(self) -> None:
        """A dictionary, in the oldest protocol."""
        items = self.pop_mark()
        self.append({})
        self._fill(items)

    def _fill(self, items: list) -> None:
        """Entries whose keys are names. Others are passed over: hashing or showing a key may take for ever."""
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise pickle.UnpicklingError("it has entries of what is no dictionary")
        self.stack[-1].update((k, v) for k, v in zip(items[::2], items[1::2], strict=True) if _is_name(k))

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
    return len(value) if isinstance(value, list | tuple | dict) else 1


def _is_name(key: Any) -> bool:
    return type(key) is str or (type(key) is int and -(2**31) <= key < 2**31)


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
        found = Bounded(file, **options).load()
        if isinstance(found, list | tuple) and not all(isinstance(key, str | bytes) for key in found):
            raise pickle.UnpicklingError("it has numbers without a name")
        allowance.last = found
        return found

    return SimpleNamespace(__name__="inert", Unpickler=Bounded, load=load)
