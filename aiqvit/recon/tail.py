"""The rest of the full-precision network behind a unit, as a function of that unit's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.recon.activations import Activations, ActivationStore, Call
from aiqvit.recon.capture import Reached, device_of, first
from aiqvit.recon.gradients import tensors_of
from aiqvit.samples import Batch

End = str | Callable[[nn.Module, Batch], Any]


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
        self.depth = len(self.before) / len(units)  # of the unit, as a share of all

    def __call__(self, output: Tensor, rows: Sequence[int], end: End = "") -> Any:
        """The teacher's output on the calibration samples `rows`, with `output` (B, ...) as that of the unit.

        `end` names a module whose first input is wanted in place of it, and nothing behind that is run; or it is a
        function of model and batch that is called in place of `forward`.
        """
        with self._behind(output, rows):
            return self._run(rows, end)

    @torch.no_grad()
    def call(self, output: Tensor, rows: Sequence[int], unit: str) -> Call:
        """Arguments and keyword arguments that another unit is called with, with `output` as that of this one."""
        with self._behind(output, rows):
            return self._called(samples(self.calibration, rows), unit)

    @torch.no_grad()
    def reference(self, rows: Sequence[int], end: End = "") -> Any:
        """What the teacher itself gives on these samples; `end` as in a call."""
        return self._run(rows, end)

    def takes_bfloat16(self, end: End = "") -> bool:
        """Whether what stands behind the unit can multiply in bfloat16, gradients included; tried on one sample.

        An operator of somebody's network may have no kernel for that.
        """
        seen: list[Tensor] = []
        hook = self.teacher.get_submodule(self.unit).register_forward_hook(lambda _, __, y: seen.append(first(y)))
        try:
            self.reference([0], end)
        finally:
            hook.remove()
        output = seen[0].detach().clone().requires_grad_()
        try:
            with torch.enable_grad():
                with torch.autocast(output.device.type, torch.bfloat16):
                    found = tensors_of(self(output.clone(), [0], end))
                sum(tensor.float().sum() for tensor in found).backward()
        except (RuntimeError, TypeError):
            return False
        return output.grad is not None

    def _run(self, rows: Sequence[int], end: End) -> Any:
        batch = samples(self.calibration, rows)
        if not isinstance(end, str) or not end:
            return (end or self.forward)(self.teacher, batch)
        return self._called(batch, end)[0][0]

    def _called(self, batch: Batch, module: str) -> Call:
        def stop(_: nn.Module, args: tuple, kwargs: dict) -> None:
            raise Reached(args, kwargs)

        hook = self.teacher.get_submodule(module).register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.forward(self.teacher, batch)
        except Reached as reached:
            args, kwargs = reached.args
            return args, kwargs
        finally:
            hook.remove()
        raise ValueError(f"{module} is not reached from {self.unit}")

    @contextmanager
    def _behind(self, output: Tensor, rows: Sequence[int]) -> Iterator[None]:
        """While this lasts, the unit gives `output`, and those in front nothing of worth if they can be left out."""
        values: dict[str, Any] = {self.unit: output}
        if self.skips:
            values |= {name: torch.zeros((), device=output.device).expand(len(rows), *self._shapes[name])
                       for name in self.before}
        with _standing_in(self.teacher, values, part=self.unit if self._shapes[self.unit] is None else ""):
            yield

    @cached_property
    def skips(self) -> bool:
        """Whether the units in front can be left out."""
        if not self.before or any(self._shapes.get(name) is None for name in self.before):
            return not self.before
        rows = list(range(min(2, sum(map(len, self.calibration)))))
        seen: list[Tensor] = []
        hook = self.teacher.get_submodule(self.unit).register_forward_hook(lambda _, __, y: seen.append(first(y)))
        try:
            with self._float32():
                expected = self.reference(rows)
        finally:
            hook.remove()
        self.__dict__["skips"] = True  # for the trial
        with torch.no_grad(), self._float32():
            try:
                return _equal(self(seen[0], rows), expected)
            except (RuntimeError, TypeError, AttributeError, IndexError, KeyError):
                return False

    @cached_property
    def _shapes(self) -> dict[str, torch.Size | None]:
        """Shape of one sample of the output of the unit and of each in front; None where that is no tensor."""
        found: dict[str, torch.Size | None] = {}

        def keep(name: str, output: Any) -> None:
            found[name] = output.shape[1:] if isinstance(output, Tensor) and len(output) == 1 else None

        hooks = [self.teacher.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: keep(name, y))
                 for name in (*self.before, self.unit)]
        try:
            with self._float32():
                self.reference([0])
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _float32(self) -> torch.autocast:
        """What is found out once is found out in float32, whatever is asked for first."""
        return torch.autocast(device_of(self.teacher).type, enabled=False)


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


def inputs_behind(tail: Tail, outputs: Activations, unit: str, store: ActivationStore) -> Activations:
    """What `unit` is called with on all samples, where `outputs` are those of the tail's own unit."""
    found = Activations(store)
    for start, ((output,), _) in zip(outputs.starts, outputs.calls(device_of(tail.teacher)), strict=True):
        found.append(*tail.call(output, range(start, start + len(output)), unit))
    return found


@contextmanager
def _standing_in(model: nn.Module, values: dict[str, Any], part: str) -> Iterator[None]:
    """While this lasts, the named modules give these values whatever they are called with.

    The module `part` gives a tuple: it is computed, and the first of the tuple is replaced.
    """
    modules = {name: model.get_submodule(name) for name in values}

    def instead(value: Any, name: str, computed: Callable) -> Callable:
        return lambda *args, **kwargs: (value, *computed(*args, **kwargs)[1:]) if name == part else value

    try:
        for name, module in modules.items():
            module.forward = instead(values[name], name, module.forward)
        yield
    finally:
        for module in modules.values():
            module.__dict__.pop("forward", None)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
    return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
