"""How much a torch file may ask for: what it unpacks to, how many steps build it, how often its numbers are shown.

No file that training writes comes near; one that is written to take all memory or time is refused before it does.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from aiqvit.interfaces import UserError
from aiqvit.io.limits import limit, variable

STEPS = 5_000_000  # of a pickle: each makes at most a small object
CLASSES = 100_000  # of a head
TENSORS, NAME = 200_000, 1000  # tensors of a file, and characters of a name
DENSE, SLACK = 10, 64 * 2**20  # a file unpacks to at most DENSE times its bytes and SLACK more
SHOWN = 4  # times that all numbers may be shown in tensors: those of tied layers are shown twice
DIMENSIONS = 64  # of a tensor, torch's own bound
PICKLE = 256 * 2**20  # bytes of the pickle in a zip file, which has no numbers of tensors
KEY = 1000  # steps that an unusual key costs: many can be made that a dictionary cannot tell apart at once


class Allowance:
    """What is left of the bounds while one file is read. Raises `ValueError` where nothing is."""

    def __init__(self, size: int) -> None:
        """`size` is the bytes of the file, unpacked."""
        self.size, self.steps, self.tensors = size, 0, 0
        self.held: dict[Any, int] = {}  # bytes of each storage
        self.last: Any = None  # the last value that was read, in old files the list of storages
        self.total = self.shown = 0  # bytes of all storages, and of all tensors

    def step(self, count: int) -> None:
        """Count steps."""
        self.steps += count
        if self.steps > STEPS:
            raise ValueError(f"it takes more than {STEPS // 10**6} million steps to build")

    def key(self, key: Any) -> None:
        """Count a key of a dictionary that no training script would use."""
        if isinstance(key, tuple) or (isinstance(key, int | float) and not -(2**60) < key < 2**60):
            self.step(KEY * _leaves(key))

    def storage(self, what: tuple) -> None:
        """Numbers that a pickle names as (`storage`, type, key, place, count)."""
        if len(what) < 5 or what[0] not in ("storage", b"storage") or not isinstance(what[2], str | bytes):
            raise ValueError("it has numbers without a name")
        kind, key, count = what[1], what[2], what[4]
        width = 1 if kind is torch.UntypedStorage else torch._utils._element_size(getattr(kind, "dtype", None))
        if type(count) is not int or not 0 <= count * width <= self.size:
            raise ValueError("it has more numbers than bytes")
        if key not in self.held:
            self.held[key] = count * width
            self.total += count * width
        if self.total > self.size:
            raise ValueError("it has more numbers than bytes")

    def view(self, storage: Any, offset: Any, size: Any, stride: Any) -> None:
        """A tensor on a storage: within it, not larger than it, and not one of too many."""
        if not all(isinstance(part, list | tuple) and len(part) <= DIMENSIONS for part in (size, stride)):
            raise ValueError("it has a tensor without numbers")
        if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)):
            raise ValueError("it has a tensor without numbers")
        count, held = _product(size), storage._size()
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if count and (last >= held or count > held):
            raise ValueError("it has a tensor beyond its numbers")
        self.tensors += 1
        self.shown += count * storage._element_size()
        if self.tensors > TENSORS:
            raise ValueError(f"it has more than {TENSORS} tensors")
        if self.shown > SHOWN * self.total + SLACK:
            raise ValueError("its tensors share so many numbers that copies of them would not fit")


def _product(size: Sequence[int]) -> int:
    count = 1
    for side in size:
        count *= side
    return count


def _leaves(key: Any, most: int = 1000) -> int:
    """How many parts a key has, in all depths; `STEPS` for too many."""
    count, waiting = 0, [key]
    while waiting:
        if (count := count + 1) > most:
            return STEPS
        found = waiting.pop()
        waiting += found[:most] if isinstance(found, tuple) else ()
    return count


def check_names(state: Mapping[str, Any], where: str) -> None:
    """Raise `UserError` for more tensors or longer names than a network has."""
    longest = max(map(len, state), default=0)
    if len(state) > TENSORS or longest > NAME:
        raise UserError(f"{where} holds {len(state)} tensors with names of up to {longest} characters: expected at "
                        f"most {TENSORS}, and {NAME} characters")


def check_classes(count: int, where: str) -> None:
    """Raise `UserError` for a head of more classes than there are."""
    if count > CLASSES:
        raise UserError(f"{where} have a head of {count} classes: expected at most {CLASSES}")


def check_size(size: int) -> None:
    """Raise `ValueError` for bytes beyond the limit of weights."""
    if size > limit("weights_gib") * 2**30:
        raise ValueError(f"{size / 2**30:.1f} GiB, and {variable('weights_gib')} sets the limit to "
                         f"{limit('weights_gib')}")


def check_zip(file: zipfile.ZipFile, packed: int) -> int:
    """Bytes that an archive of `packed` bytes unpacks to. Raises `ValueError` where that is too much."""
    members = file.infolist()
    total = sum(member.file_size for member in members)
    if total > DENSE * packed + SLACK:
        raise ValueError(f"its {packed / 2**20:.1f} MiB unpack to {total / 2**20:.0f}, which no weights do")
    check_size(total)
    if len(members) > 2 * TENSORS:
        raise ValueError(f"it has {len(members)} parts")
    if any(member.filename.endswith("data.pkl") and member.file_size > PICKLE for member in members):
        raise ValueError(f"its description of the tensors is larger than {PICKLE // 2**20} MiB")
    return total
