"""Measuring a model, quantized or not, on labelled data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aiqvit.api.data import Data, check_input, labelled, said
from aiqvit.api.devices import evaluated, place
from aiqvit.deploy.info import ATTRIBUTE, Info, info_of
from aiqvit.deploy.rebuild import recipe_of, sketch
from aiqvit.guard import path as expanded
from aiqvit.harness.run.progress import progress as bar
from aiqvit.interfaces import Subject, Task, UserError
from aiqvit.outcomes import joined
from aiqvit.registry import TASKS
from aiqvit.tasks.classification import accuracy
from aiqvit.tasks.classification import said as classified


def evaluate(model: nn.Module, data: Data | str | PathLike[str], *, task: str | None = None, limit: int | None = None,
             batch_size: int = 32, device: str = "auto", progress: bool = True) -> dict[str, float]:
    """Metrics in percent, and `images`, how many samples they are of.

    >>> batches = [(torch.randn(8, 3, 160, 160), torch.arange(8))]
    >>> sorted(evaluate(q, batches))
    ['images', 'top1', 'top5']

    `data` is batches of inputs and class indices, as a DataLoader gives them: then `top1` and `top5` of any classifier.
    Or it is a data folder in a layout that the task of the model knows (`task`, where the model does not say), or
    `mini`: then the metrics are that task's, and `skipped`, broken files. `limit` takes so many samples only, evenly
    spaced from a folder.

    Raises `UserError` for data without labels and for a model that does not fit the data.
    """
    where = place(device)
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit}: expected at least one sample")
    with evaluated(model, where):
        if isinstance(data, str | PathLike):
            info = _info(model)
            return by_task(model, info, opened(info, task, expanded(str(data))), limit, batch_size, where, progress)
        return _classified(model, data, limit, where)


def opened(info: Info, task: str | None, data: str | None, **options: Any) -> Task:
    """The task of a model with this data. Raises `UserError` for another than its own, and if nobody knows it."""
    name = task or info.task or ("imagenet" if info.recipe.get("builder") == "timm" else "")
    if not name:
        raise UserError(f"the model ({info.model}) does not say which task it is for: give one of "
                        f"{', '.join(TASKS.names())}")
    if info.task not in ("", name):
        TASKS.get(name)
        raise UserError(f"task {name}: the model ({info.model}) is one of the task {info.task}")
    return TASKS.get(name)(data, **options)


def by_task(model: nn.Module, info: Info, task: Task, limit: int | None, batch_size: int, device: str,
            progress: bool = True) -> dict[str, float]:
    """The metrics of a task for a model that is known by name: from a file, from `quantize`, or of full precision."""
    if not info.recipe:
        raise UserError(f"nothing builds {info.model} by name, so that no task knows what its inputs are: give batches "
                        "of inputs and labels")
    subject = task.take(Subject(info.model, sketch(info.recipe), None, info.weights, recipe=info.recipe))
    show = bar if progress else lambda items, *_, **__: items
    return task.evaluate(model.to(device).eval(), subject, limit=limit, batch_size=batch_size, device=device,
                         progress=show)


def _info(model: nn.Module) -> Info:
    """What a quantized model says of itself, or what there is to say of a network of full precision."""
    if hasattr(model, ATTRIBUTE):
        return info_of(model)
    return Info(model=type(model).__name__, recipe=recipe_of(model))


@torch.no_grad()
def _classified(model: nn.Module, data: Data, limit: int | None, device: str) -> dict[str, float]:
    found: list[tuple[list[str], dict[str, np.ndarray]]] = []
    count, outputs = 0, 0
    for batch, labels in labelled(data):
        if not isinstance(labels, Tensor) or labels.shape != batch.shape[:1] or labels.is_floating_point():
            raise UserError(f"data has {said(labels) if labels is not None else 'nothing'} for labels: expected class "
                            f"indices, whole numbers in a tensor of shape ({len(batch)},), or a data folder")
        batch, labels = batch.to(device), labels.cpu().long()
        if not found:
            check_input(model, batch)
        logits = _logits(model(batch), labels)
        rest = len(logits) if limit is None else min(limit - count, len(logits))
        found.append(([""] * rest, classified(logits[:rest], labels[:rest])))
        count, outputs = count + rest, logits.shape[1]
        if count == limit:
            break
    _warn_of_classes(data, outputs)
    if not found:
        raise UserError("data has no samples: expected batches of inputs and class indices")
    outcomes = joined(found)
    scores = accuracy(outcomes, outcomes.once())
    return {**{name: float(value[0]) for name, value in scores.items()}, "images": count}


def _warn_of_classes(data: Any, outputs: int) -> None:
    """Warn where a data set numbers other classes than the model has outputs, as torchvision's ImageFolder may."""
    classes = getattr(getattr(data, "dataset", None), "classes", None)
    if isinstance(classes, Sequence) and outputs and len(classes) != outputs:
        warnings.warn(f"the data set has {len(classes)} classes and the model {outputs} outputs: labels have to be "
                      "indices of outputs; of a data folder evaluate(model, DIR) knows them", stacklevel=4)


def _logits(output: Any, labels: Tensor) -> Tensor:
    """A classifier's output (B, classes). Raises `UserError` for another one and for what is not finite."""
    if not isinstance(output, Tensor):
        raise UserError(f"the model's output is a {type(output).__name__}: expected logits (B, classes)")
    if output.dim() != 2 or int(labels.min()) < 0 or int(labels.max()) >= output.shape[1]:
        raise UserError(f"the model's output has shape {tuple(output.shape)}, which does not fit labels from "
                        f"{int(labels.min())} to {int(labels.max())}")
    if not output.isfinite().all():
        raise UserError("the model's output has values that are NaN or infinite: no class is the right one")
    return output.float().cpu()
