"""A quantized model as an ONNX file on integer kernels, and a float one by the same exporter to compare with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from aiqvit import __version__
from aiqvit.deploy.onnx import graph, twins
from aiqvit.deploy.onnx.fuse import fuse
from aiqvit.deploy.onnx.log_softmax import fuse_log_softmax
from aiqvit.deploy.onnx.trace import traced
from aiqvit.deploy.onnx.versions import OPSETS, require
from aiqvit.deploy.onnx.weights import Target, store
from aiqvit.interfaces import UserError
from aiqvit.io.files import check_place, write_bytes

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was written."""

    path: Path
    size: int  # bytes
    products: dict[str, str]  # every quantized layer and product by name: "integer", or why it is not, "float: ..."
    matmuls: int  # integer products in the file; an operand of two ranges takes two


def export_onnx(model: nn.Module, path: str | Path, example: Tensor, *, target: Target = "ort", opset: int = OPSETS[0],
                properties: Mapping[str, str] | None = None) -> Exported:
    """Write a quantized model, which stays as it is, for batches of any size of samples like those of `example`.

    Activations are uint8 and weights int8 in QDQ form, weights of 4 bits and fewer stored as INT4; `target` is the
    runtime that has to find its integer kernels in it. Values are named: the graph's `input` and `output` (`output_0`,
    ... where there are several), of each layer `LAYER:in` and `LAYER:out`, of each product `PRODUCT:left`,
    `PRODUCT:right` and `PRODUCT:out`; of a second call `LAYER:in@2`. `properties` go to the file's metadata.

    Raises `UserError` for a model that is not quantized, a format that has no form in ONNX, an example that does not
    fit, an opset or a package that is too old, and a file that cannot be written; nothing is written then.
    """
    path = Path(path)
    check_place(path)
    require(opset, target)
    model = copy.deepcopy(model).cpu().eval()
    products = twins.replace(model)
    program = traced(model, example, opset)
    store(program, target)
    graph.keep_float_weights(program)
    reached = graph.name_values(program)
    for name in products.keys() - reached:
        products[name] = "float: not reached by the example"
    matmuls = graph.integer_products(program)
    fuse_log_softmax(program)
    if target == "ort":
        fuse(program)
    return Exported(path, _write(program, path, properties or {}), products, matmuls)


def export_fp32(model: nn.Module, path: str | Path, example: Tensor) -> Path:
    """Write a float model, for batches of any size: what speed is compared with. Raises as `export_onnx`."""
    path = Path(path)
    check_place(path)
    require()
    _write(traced(copy.deepcopy(model).cpu().eval(), example, OPSETS[0]), path, {})
    return path


def _write(program: ir.Model, path: Path, properties: Mapping[str, str]) -> int:
    import onnx_ir as ir

    graph.name_batch(program)
    graph.clean(program, {"aiqvit.version": __version__, **properties})
    try:
        content = ir.to_proto(program).SerializeToString()
    except Exception as error:
        raise UserError(f"cannot write {str(path)!r}: one ONNX file holds 2 GiB at most ({error})") from error
    write_bytes(path, content)
    return len(content)
