"""Results that runs of one process share: what one run computed is there for the next that would compute the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

from torch import Tensor

from aiqvit.harness.identity.spec import Run
from aiqvit.interfaces import Shared

LIMIT = 2**30  # bytes


class Cache:
    """Plain values and tensors by key, at most `limit` bytes of tensors; those not asked for longest leave first."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        """What was put, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value, which must not be changed any more."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        while size(list(self._kept.values())) > self.limit:
            self._kept.popitem(last=False)


class OfRun(Shared):
    """The part of a cache that depends on the same model, calibration samples, seed, rewriting and threads as a run."""

    def __init__(self, cache: Cache, item: Run) -> None:
        super().__init__()
        spec = item.spec
        self._cache = cache
        self._scope = (spec.task, spec.model, spec.weights, spec.calibration, spec.seed, item.method.rotate,
                       spec.device, spec.threads)

    def get(self, key: Hashable) -> Any:
        """See `Shared`."""
        return self._cache.get((self._scope, key))

    def put(self, key: Hashable, value: Any) -> None:
        """See `Shared`."""
        self._cache.put((self._scope, key), value)


def size(value: Any) -> int:
    """Bytes of all tensors in lists and mappings."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return sum(map(size, inside))
