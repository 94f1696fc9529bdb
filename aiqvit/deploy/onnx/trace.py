"""From a module to the exporter's graph: one call of torch's exporter, kept quiet, its failures as one sentence."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aiqvit.deploy.onnx.batches import require_any_batch
from aiqvit.deploy.onnx.ops import translations
from aiqvit.deploy.onnx.simplify import simplify
from aiqvit.interfaces import UserError

if TYPE_CHECKING:
    import onnx_ir as ir


@torch.no_grad()
def traced(model: nn.Module, example: Tensor, opset: int) -> ir.Model:
    """The graph of a module in evaluation mode, with a first dimension of any size; `example` (B, ...), B >= 1.

    Raises `UserError` for an example that the module does not take and for what the exporter cannot translate.
    """
    if not isinstance(example, Tensor) or example.dim() == 0 or len(example) == 0:
        raise UserError("the example of the export is no batch: expected a tensor (B, ...) of at least one sample")
    sample = example[:1].detach().cpu().expand(2, *example.shape[1:]).clone()  # a batch of 1 would become a constant
    try:
        model(sample)
    except UserError:  # what a twin says of its layer
        raise
    except Exception as error:
        shape = tuple(example.shape)
        raise UserError(f"the model does not take an example of shape {shape}: {_reason(error)}") from error
    try:
        with _quiet():
            program = torch.export.export(model, (sample,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                                          strict=False)
            require_any_batch(program, model, sample)
            found = torch.onnx.export(program, opset_version=opset, dynamo=True, verbose=False, optimize=False,
                                      custom_translation_table=translations()).model
            simplify(found)
            _name_ends(found.graph)
            return found
    except Exception as error:
        raise UserError(f"the model cannot be exported: {_reason(error)}") from error


def _name_ends(graph: ir.Graph) -> None:
    """Name the input and the outputs; once the graph is simple, no value is two of them."""
    count = len(graph.outputs)
    names = ["input", *(["output"] if count == 1 else [f"output_{i}" for i in range(count)])]
    ends = [*graph.inputs, *graph.outputs]
    for value in (value for node in graph for value in node.outputs if value.name in names):
        value.name = f"{value.name}_inside"
    for value, name in zip(ends, names, strict=True):
        value.name = name


def _reason(error: BaseException) -> str:
    """What an exception was raised from in the end, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("Constraints violated"):
        return "its forward pass fixes the number of samples in a batch: take x.shape[0] for it, not len(x) or int()"
    return f"{lines[0] if lines else 'no reason given'} ({type(error).__name__})"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter prints, warns of and logs about itself."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()),
              contextlib.redirect_stderr(io.StringIO())):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
