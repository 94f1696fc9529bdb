"""An exported file in onnxruntime: its outputs, its layers one by one, the kernels that it runs on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from aiqvit.deploy.onnx.export import Exported
from aiqvit.deploy.proof.parity import layer_parity

INTEGER = ("MatMulIntegerToFloat", "QLinearMatMul")


def session(content: Path | bytes, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    """A session of one thread on the CPU, which may leave its optimized graph in a file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    content = content if isinstance(content, bytes) else str(content)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(path: Path, x: Tensor) -> list[Tensor]:
    """Outputs of the file."""
    return [torch.from_numpy(y) for y in session(path).run(None, {"input": x.numpy()})]


def kernels(path: Path) -> Counter:
    """Operators of the graph that onnxruntime runs, with how many there are of each."""
    optimized = path.with_suffix(".optimized.onnx")
    session(path, optimized)
    return Counter(node.op_type for node in onnx.load(optimized).graph.node)


def same(given: Tensor, expected: Tensor, flips: float = 0.01, tolerance: float = 1e-4) -> bool:
    """Whether values are equal but for rounding; a share of `flips` may differ, where an input lies between codes."""
    off = (given - expected).abs() > tolerance * expected.abs().max()
    return given.shape == expected.shape and off.float().mean().item() <= flips


def differing(net: nn.Module, exported: Exported, x: Tensor) -> list[str]:
    """Layers and products that, fed with what they got in the file, give something else in torch."""
    return [match.name for match in layer_parity(net, exported.path, x).matches if not match.fine]
