"""Backpropagation node by node in Python: torch's engine asks a GPU that is not there for its streams."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from graphlib import TopologicalSorter
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge


def python_autograd() -> AbstractContextManager:
    """While this lasts, `backward` and `torch.autograd.grad` go without torch's engine; `retain_grad` keeps nothing."""
    return patch.multiple(torch.autograd, grad=grad, backward=backward)


def backward(loss: Tensor, *_: Any, **__: Any) -> None:
    """`torch.autograd.backward` of one number."""
    with torch.no_grad():
        for node, (gradient, *_) in gradients([loss], [torch.ones_like(loss)]).items():
            if (parameter := getattr(node, "variable", None)) is not None and gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, create_graph: bool = False, allow_unused: bool = False,
         materialize_grads: bool = False) -> tuple[Tensor | None, ...]:
    """`torch.autograd.grad`."""
    outputs, inputs = ([given] if isinstance(given, Tensor) else list(given) for given in (outputs, inputs))
    with torch.set_grad_enabled(create_graph):
        found = gradients(outputs, grad_outputs or list(map(torch.ones_like, outputs)))
    edges = map(get_gradient_edge, inputs)
    wanted = [found[edge.node][edge.output_nr] if edge.node in found else None for edge in edges]
    return tuple(torch.zeros_like(given) if gradient is None and materialize_grads else gradient
                 for given, gradient in zip(inputs, wanted, strict=True))


def gradients(outputs: Sequence[Tensor], given: Sequence[Tensor]) -> dict[Node, list[Tensor | None]]:
    """The gradients at all outputs of every node behind the outputs, which have the gradients `given`."""
    edges = [get_gradient_edge(output) for output in outputs]
    order = reached([edge.node for edge in edges])
    found: dict[Node, list[Tensor | None]] = {node: [None] * len(node._input_metadata) for node in order}
    for edge, gradient in zip(edges, given, strict=True):
        add(found[edge.node], edge.output_nr, gradient)
    for node in order:
        if hasattr(node, "variable") or all(gradient is None for gradient in found[node]):
            continue
        passed = (node if callable(node) else node.apply)(*found[node])
        passed = passed if isinstance(passed, tuple) else (passed,)
        for (following, place), gradient in zip(node.next_functions, passed, strict=False):
            if following is not None and gradient is not None:
                add(found[following], place, gradient.sum_to_size(following._input_metadata[place].shape))
    return found


def add(slots: list[Tensor | None], place: int, gradient: Tensor) -> None:
    """Add a gradient to what is there."""
    slots[place] = gradient if slots[place] is None else slots[place] + gradient


def reached(nodes: Sequence[Node]) -> list[Node]:
    """All nodes behind these, each in front of those that it passes gradients to."""
    graph: dict[Node, set[Node]] = {}
    waiting = list(nodes)
    while waiting:
        if (node := waiting.pop()) not in graph:
            graph[node] = {following for following, _ in node.next_functions if following is not None}
            waiting += graph[node]
    return list(TopologicalSorter(graph).static_order())[::-1]
