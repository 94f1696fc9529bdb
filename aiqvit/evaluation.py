"""Evaluation, written once: what a model says of the samples of any task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aiqvit.errors import Diverged
from aiqvit.outcomes import Labelled, Outcomes, joined
from aiqvit.task import Task


class Teacher:
    """The model in full precision, whose outputs on the samples evaluated are computed once."""

    def __init__(self, model: nn.Module) -> None:
        """`model` may be handed over later, in place of this one: while full precision itself is evaluated."""
        self.model = model
        self._kept: dict[tuple[str, ...], Tensor] = {}

    def outputs(self, samples: Sequence[str], compute: Callable[[nn.Module], Tensor]) -> Tensor:
        """Those of a batch; `compute` gives them for a model."""
        key = tuple(samples)
        if key not in self._kept:
            self._kept[key] = compute(self.model)
        return self._kept[key]

    def keep(self, samples: Sequence[str], outputs: Tensor) -> Tensor:
        """Keep the outputs of a batch that were computed anyway."""
        return self._kept.setdefault(tuple(samples), outputs)


@torch.inference_mode()
def outcomes(task: Task, model: nn.Module, batches: Iterable[Labelled], device: str,
             teacher: Teacher | None = None) -> Outcomes:
    """What a model says of labelled samples; see `Task.outcomes`."""
    model, parts = model.to(device).eval(), []
    for batch in batches:
        def compute(net: nn.Module, inputs: Any = batch.inputs) -> Any:
            return task.predict(net.to(device).eval(), inputs, device)

        found, plain = compute(model), None
        if isinstance(found, Tensor) and not torch.isfinite(found).all():
            raise Diverged("the model's outputs are not finite")
        if task.taught and teacher:
            plain = (teacher.keep(batch.samples, found) if teacher.model is model
                     else teacher.outputs(batch.samples, compute))
        parts.append((batch.samples, task.judge(found, batch, plain)))
    return joined(parts)
