"""The rest of the full-precision network behind a unit, as a function of that unit's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.recon.capture import first
from aiqvit.samples import Batch


class _Reached(Exception):
    """Raised inside a forward pass with the input of the wanted module."""


class Tail:
    """`tail(output, rows)` runs the teacher behind one unit; gradients flow back to `output`.

    The units in front of it need not be computed where nothing but the unit's own output comes from them: they give
    zeros then. Whether that is so is tried once, on two samples; where it is not (skip connections), all of the network
    is run and the unit's output replaced.
    """

    def __init__(self, teacher: nn.Module, units: Sequence[str], unit: str, calibration: Sequence[Batch],
                 forward: Callable[[nn.Module, Batch], Any]) -> None:
        self.teacher, self.unit, self.calibration, self.forward = teacher, unit, calibration, forward
        self.before = list(units[: list(units).index(unit)])

    def __call__(self, output: Tensor, rows: Sequence[int], at: str = "") -> Any:
        """The teacher's output on the calibration samples `rows`, with `output` (B, ...) as that of the unit.

        `at` names a module whose first input is wanted in place of it: nothing behind that is run.
        """
        values: dict[str, Any] = {self.unit: output}
        if self.skips:
            values |= {name: torch.zeros((), device=output.device).expand(len(rows), *shape)
                       for name, shape in self._shapes.items()}
        with _standing_in(self.teacher, values):
            return self._run(rows, at)

    @torch.no_grad()
    def reference(self, rows: Sequence[int], at: str = "") -> Any:
        """What the teacher itself gives on these samples; `at` as in a call."""
        return self._run(rows, at)

    def _run(self, rows: Sequence[int], at: str) -> Any:
        batch = samples(self.calibration, rows)
        if not at:
            return self.forward(self.teacher, batch)

        def stop(_: nn.Module, args: tuple) -> None:
            raise _Reached(args[0])

        hook = self.teacher.get_submodule(at).register_forward_pre_hook(stop)
        try:
            self.forward(self.teacher, batch)
        except _Reached as reached:
            return reached.args[0]
        finally:
            hook.remove()
        raise ValueError(f"{at} is not reached from {self.unit}")

    @cached_property
    def skips(self) -> bool:
        """Whether the units in front can be left out."""
        if len(self._shapes) != len(self.before):
            return False
        rows = list(range(min(2, sum(map(len, self.calibration)))))
        seen: list[Tensor] = []
        hook = self.teacher.get_submodule(self.unit).register_forward_hook(lambda _, __, y: seen.append(first(y)))
        try:
            expected = self.reference(rows)
        finally:
            hook.remove()
        self.__dict__["skips"] = True  # for the trial
        with torch.no_grad():
            try:
                return _equal(self(seen[0], rows), expected)
            except (RuntimeError, TypeError, AttributeError, IndexError, KeyError):
                return False

    @cached_property
    def _shapes(self) -> dict[str, torch.Size]:
        """Shape of one sample of each earlier unit's output, where that is a tensor."""
        found: dict[str, torch.Size] = {}

        def keep(name: str, output: Any) -> None:
            if isinstance(output, Tensor) and len(output) == 1:
                found[name] = output.shape[1:]

        hooks = [self.teacher.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: keep(name, y))
                 for name in self.before]
        try:
            self.reference([0])
        finally:
            for hook in hooks:
                hook.remove()
        return found


def samples(batches: Sequence[Batch], rows: Sequence[int]) -> Batch:
    """The named samples, counted on through all batches, as one batch: a tensor joined along dim 0, or a list."""
    starts, count = [], 0
    for batch in batches:
        starts.append(count)
        count += len(batch)
    picked = []
    for row in rows:
        at = max(i for i, start in enumerate(starts) if start <= row)
        picked.append(batches[at][row - starts[at] : row - starts[at] + 1])
    return torch.cat(picked) if isinstance(picked[0], Tensor) else [sample for part in picked for sample in part]


@contextmanager
def _standing_in(model: nn.Module, values: dict[str, Any]) -> Iterator[None]:
    """While this lasts, the named modules give these values whatever they are called with."""
    modules = {name: model.get_submodule(name) for name in values}
    try:
        for name, module in modules.items():
            module.forward = lambda *_, value=values[name], **__: value
        yield
    finally:
        for module in modules.values():
            module.__dict__.pop("forward", None)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
    return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
