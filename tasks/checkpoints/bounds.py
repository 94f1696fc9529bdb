"""How much a torch file may ask for: what it unpacks to, how many steps build it, how often its numbers are shown.

No file that training writes comes near; one that is written to take all memory or time is refused before it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from aiqvit.interfaces import UserError
from aiqvit.io.limits import limit, variable

STEPS = 5_000_000  # of a pickle: each makes at most a small object
CLASSES = 100_000  # of a head
TENSORS, NAME = 200_000, 1000  # tensors of a file, and characters of a name
# All numbers may be shown SHOWN times in tensors and SLACK bytes more: those of tied layers are shown twice.
SHOWN, SLACK = 4, 64 * 2**20
DIMENSIONS = 64  # of a tensor, torch's own bound
PICKLE = 128 * 2**20  # bytes of the pickle, which describes the tensors and has all that is no tensor


class Beyond(ValueError):
    """A bound is hit, by a file that may be whole."""


class Allowance:
    """What is left of the bounds while one file is read. Raises `Beyond` where nothing is.

    Numbers that cannot be there raise `ValueError`.
    """

    def __init__(self, size: int) -> None:
        """`size` is the bytes of the file, unpacked."""
        self.size, self.steps, self.tensors, self.text = size, 0, 0, 0
        self.held: dict[Any, int] = {}  # bytes of each storage
        self.last: Any = None  # the last value that was read, in old files the list of storages
        self.total = self.shown = 0  # bytes of all storages, and of all tensors

    def step(self, count: int) -> None:
        """Count steps."""
        self.steps += count
        if self.steps > STEPS:
            raise Beyond(f"it takes more than {STEPS // 10**6} million steps to build")

    def read(self, count: int) -> None:
        """Count bytes of the pickle, which has no numbers of tensors."""
        self.text += count
        if self.text > PICKLE:
            check_pickle(self.text)

    def storage(self, what: tuple) -> None:
        """Numbers that a pickle names as (`storage`, type, key, place, count)."""
        part = what[5] if len(what) > 5 and what[5] is not None else ("",)  # of a storage, in old files
        named = len(what) > 4 and isinstance(part, tuple) and part
        if not named or what[0] not in ("storage", b"storage") or not _texts(what[2], part[0]):
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

    def view(self, storage: Any, offset: Any, size: Any, stride: Any) -> bool:
        """A tensor on a storage, within it and not one of too many; `False` for one to be left out.

        Such a one shows more numbers than its storage has, as `expand` makes it, and more than may be copied.
        """
        if not all(isinstance(part, list | tuple) and len(part) <= DIMENSIONS for part in (size, stride)):
            raise ValueError("it has a tensor without numbers")
        if len(size) != len(stride) or not all(type(n) is int and 0 <= n < 2**63 for n in (offset, *size, *stride)):
            raise ValueError("it has a tensor without numbers")
        count, held = _product(size), storage._size()
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if count and last >= held:
            raise ValueError("it has a tensor beyond its numbers")
        self.tensors += 1
        if self.tensors > TENSORS:
            raise Beyond(f"it has more than {TENSORS} tensors")
        shown = self.shown + count * storage._element_size()
        if shown <= SHOWN * self.total + SLACK:
            self.shown = shown
            return True
        if count > held:
            return False
        raise Beyond("its tensors share so many numbers that copies of them would not fit")


def _texts(*values: Any) -> bool:
    return all(isinstance(value, str | bytes) for value in values)


def _product(size: Sequence[int]) -> int:
    count = 1
    for side in size:
        count *= side
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
    """Raise `Beyond` for bytes beyond the limit of weights."""
    if size > limit("weights_gib") * 2**30:
        raise Beyond(f"it has {size / 2**30:.1f} GiB, and {variable('weights_gib')} sets the limit to "
                     f"{limit('weights_gib')}")


def check_pickle(size: int) -> None:
    """Raise `Beyond` for more bytes than describe the tensors of any network."""
    if size > PICKLE:
        raise Beyond(f"what it has beside the numbers of its tensors is larger than {PICKLE // 2**20} MiB")
