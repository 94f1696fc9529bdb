"""A quantized model as an ONNX file on integer kernels, and a float one beside it to compare with."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aiqvit import __version__
from aiqvit.deploy.onnx import graph, twins
from aiqvit.deploy.onnx.fuse import fuse
from aiqvit.deploy.onnx.log_softmax import fuse_log_softmax
from aiqvit.deploy.onnx.ops import translations
from aiqvit.deploy.onnx.weights import Target, store
from aiqvit.io.files import write_bytes

OPSET = 21


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was written."""

    path: Path
    size: int  # bytes
    products: dict[str, str]  # every quantized layer and product by name: "integer", or why not, "float: ..."


def export_onnx(model: nn.Module, path: str | Path, example: Tensor, *, target: Target = "ort", opset: int = OPSET,
                properties: Mapping[str, str] | None = None) -> Exported:
    """Write a quantized model, which stays as it is, for batches of any size of samples like those of `example`.

    Uint8 activations and int8 weights in QDQ form (4 bits and fewer stored as INT4), which the runtime `target` turns
    into integer kernels. Values are named: the graph's `input` and `output` (`output_0`, ... where there are several),
    of each layer `LAYER:in` and `LAYER:out`, of each product `PRODUCT:left`, `PRODUCT:right` and `PRODUCT:out`.
    `properties` go to the file's metadata.

    Raises `UserError` for a model that is not quantized, a format that has no form in ONNX, an opset below 21, a
    missing extra and a file that cannot be written.
    """
    model = copy.deepcopy(model).cpu().eval()
    products = twins.replace(model)
    program = _traced(model, example, opset)
    store(program.model, target)
    graph.name_values(program.model)
    fuse_log_softmax(program.model)
    if target == "ort":
        fuse(program.model)
    return _write(program.model, Path(path), properties or {}, products)


def export_fp32(model: nn.Module, path: str | Path, example: Tensor) -> Path:
    """Write a float model by the same exporter, for batches of any size: what speed is compared with."""
    program = _traced(copy.deepcopy(model).cpu().eval(), example, OPSET)
    return _write(program.model, Path(path), {}, {}).path


def _traced(model: nn.Module, example: Tensor, opset: int) -> torch.onnx.ONNXProgram:
    sample = example[:1].cpu().expand(2, *example.shape[1:]).clone()  # a batch of 1 would be taken for a constant
    with torch.no_grad(), _quiet():
        traced = torch.export.export(model, (sample,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False)
        return torch.onnx.export(traced, opset_version=opset, dynamo=True, custom_translation_table=translations(),
                                 input_names=["input"], output_names=["output"], verbose=False)


def _write(model: object, path: Path, properties: Mapping[str, str], products: dict[str, str]) -> Exported:
    import onnx_ir as ir

    graph.name_batch(model)
    graph.clean(model, {"aiqvit.version": __version__, **properties})
    content = ir.to_proto(model).SerializeToString()
    write_bytes(path, content)
    return Exported(path, len(content), products)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's prints, warnings and logs of what it does to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
