"""Networks that were stored as objects, by `torch.save(model)`."""

from __future__ import annotations

from typing import Any

import torch
from aiqvit.tasks.checkpoints.bounds import NAME
from aiqvit.tasks.checkpoints.objects import Inert

DEPTH, VISITS = 50, 1_000_000  # of a network that is stored as an object: modules in each other, what all of them have
PARTS = ("_parameters", "_buffers", "_modules")


def whole_module(value: Any) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a network that was stored as an object (`torch.save(model)`), by their names."""
    found: dict[str, torch.Tensor] = {}
    visited = 0

    def visit(module: Any, prefix: str, depth: int) -> None:
        nonlocal visited
        if not isinstance(module, Inert) or depth > DEPTH or len(prefix) > NAME or visited > VISITS:
            return
        gone = module.get("_non_persistent_buffers_set")
        gone = {name for name in gone if isinstance(name, str)} if isinstance(gone, list | tuple) else ()
        visited += 1 + len(gone) + sum(len(_entries(module, kind)) for kind in PARTS)
        for kind in PARTS[:2]:
            for name, tensor in _entries(module, kind):
                if isinstance(tensor, torch.Tensor) and name not in gone:
                    found[prefix + name] = tensor
        for name, child in _entries(module, "_modules"):
            visit(child, f"{prefix}{name}.", depth + 1)

    visit(value, "", 0)
    return found


def _entries(module: Inert, kind: str) -> list[tuple[str, Any]]:
    """What a module has of a kind under names that a network has."""
    entries = module.get(kind)
    named = entries.items() if isinstance(entries, dict) else ()
    return [(name, value) for name, value in named if isinstance(name, str) and len(name) <= NAME]
