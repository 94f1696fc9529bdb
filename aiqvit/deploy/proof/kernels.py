"""Which products run on integers: counted in the graph that onnxruntime makes of an export when it loads it.

Product nodes of a copy are given the name of their layer; onnxruntime's fused nodes keep the name of the product that
they replace, so its optimized graph can be read layer by layer.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiqvit.deploy.proof.graph import between
from aiqvit.deploy.proof.runtime import options, read, session

if TYPE_CHECKING:
    from onnx import ModelProto

INTEGER = {"MatMulIntegerToFloat", "QLinearMatMul", "MatMulInteger", "DynamicQuantizeMatMul", "QLinearConv",
           "ConvInteger", "QGemm", "QAttention"}
FLOAT = {"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "TransposeMatMul", "Conv", "FusedConv", "NhwcFusedConv",
         "ConvTranspose", "MatMulNBits", "MatMulBnb4", "Einsum", "Attention", "MultiHeadAttention"}
PRODUCTS = INTEGER | FLOAT
PROMISED = "integer"


@dataclass(frozen=True)
class Product:
    """A quantized layer or product, or (`promise` empty) a node of the graph that belongs to none."""

    name: str
    kernels: tuple[str, ...]  # types of the nodes that compute it in the optimized graph
    promise: str  # "integer", or why it is not

    @property
    def integer(self) -> bool:
        """Whether all of it runs on integer kernels."""
        return bool(self.kernels) and INTEGER.issuperset(self.kernels)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.kernels) or 'no product is left'})"


@dataclass(frozen=True)
class Kernels:
    """What onnxruntime made of every product."""

    products: tuple[Product, ...]

    @property
    def integer(self) -> int:
        """How many products run on integer kernels."""
        return sum(product.integer for product in self.products)

    @property
    def missed(self) -> list[str]:
        """Products that the export promises on integer kernels and that run on others."""
        return [str(product) for product in self.products if product.promise == PROMISED and not product.integer]

    def __str__(self) -> str:
        counts = Counter(kernel for product in self.products for kernel in product.kernels if kernel in INTEGER)
        used = ", ".join(f"{count} {kernel}" for kernel, count in sorted(counts.items()))
        text = f"{self.integer} of {len(self.products)} products on integer kernels{f' ({used})' if used else ''}"
        why = Counter(p.promise for p in self.products if not p.integer and p.promise not in (PROMISED, ""))
        text += "".join(f"; {count} {reason}" for reason, count in why.items())
        others = [str(product) for product in self.products if not (product.integer or product.promise)]
        text += f"; float, of no quantized layer: {_some(others)}" if others else ""
        return text + (f"; NOT on integers as promised: {_some(self.missed)}" if self.missed else "")


def count_kernels(path: str | Path, promised: Mapping[str, str]) -> Kernels:
    """Load a file as onnxruntime does and say which kernels each product got.

    `promised` is `Exported.products`. Raises `UserError` for a file that is no ONNX or cannot be loaded.
    """
    model = read(path)
    owners = label(model, promised)
    found: dict[str, list[str]] = {name: [] for name in promised}
    others = []
    for node in optimized(model, str(path)).graph.node:
        if node.op_type not in PRODUCTS:
            continue
        if owner := owners.get(node.name.partition("/")[0]):  # a fusion may add "/", and its own name
            found[owner].append(node.op_type)
        else:
            others.append(Product(node.name or node.output[0], (node.op_type,), ""))
    own = [Product(name, tuple(kernels), promised[name]) for name, kernels in found.items()]
    return Kernels((*own, *others))


def label(model: ModelProto, layers: Iterable[str]) -> dict[str, str]:
    """Name the product nodes of each layer after it, in place; returns the layer of each name."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    owners = {}
    for layer in layers:
        for number, node in enumerate(between(layer, made_by, PRODUCTS)):
            node.name = f"{layer}#{number}"
            owners[node.name] = layer
    return owners


def optimized(model: ModelProto, name: str) -> ModelProto:
    """The graph that onnxruntime runs in place of this one."""
    with tempfile.TemporaryDirectory() as folder:
        settings = options()
        settings.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        session(model, settings, name)
        return read(settings.optimized_model_filepath)


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
