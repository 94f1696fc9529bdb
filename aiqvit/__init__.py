"""aiqvit: post-training quantization of vision transformers, measured honestly.

    q = aiqvit.quantize(model, images, method="repqvit", bits="4/8")
    print(aiqvit.card(q))
    aiqvit.save(q, "q.safetensors")
    aiqvit.export(q, "q.onnx", images)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiqvit.api.comparing import compare
    from aiqvit.api.evaluating import evaluate
    from aiqvit.api.exporting import export
    from aiqvit.api.files import load, save
    from aiqvit.api.names import list_methods, list_tasks
    from aiqvit.api.quantizing import quantize
    from aiqvit.api.showing import card, coverage

__version__ = "0.1.0"

# of all that methods share (quant, recon and what they import): raise it when the numbers of methods change. With
# `Method.version` and `Task.version` it is part of a run's identity; tests/reference.csv catches who forgets.
ENGINE_VERSION = 1

_HOMES = {"quantize": "quantizing", "save": "files", "load": "files", "export": "exporting", "evaluate": "evaluating",
          "compare": "comparing", "card": "showing", "coverage": "showing", "list_methods": "names",
          "list_tasks": "names"}
__all__ = ["card", "compare", "coverage", "evaluate", "export", "list_methods", "list_tasks", "load", "quantize",
           "save"]


def __getattr__(name: str) -> Any:  # lazily: `import aiqvit` imports no torch
    if name not in _HOMES:
        raise AttributeError(f"module 'aiqvit' has no attribute {name!r}")
    return getattr(import_module(f"aiqvit.api.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
