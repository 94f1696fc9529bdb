"""The libraries behind the proof, imported when they are needed, and sessions of onnxruntime that all parts share."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aiqvit.interfaces import UserError

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession, SessionOptions

OLDEST = "1.23"  # of onnxruntime: older ones cannot fold INT4 weights into INT8


def plain(items: Iterable, description: str = "", total: int | None = None) -> Iterable:
    """A progress bar that shows nothing."""
    return items


def onnxruntime() -> ModuleType:
    """The module. Raises `UserError` where it, or onnx, is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise UserError("checking an export needs onnx and onnxruntime: pip install 'aiqvit[onnx]'") from error
    return onnxruntime


def read(path: str | Path) -> ModelProto:
    """An ONNX file. Raises `UserError` for a file that is not there or is none."""
    onnxruntime()
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except DecodeError as error:
        raise UserError(f"{str(path)!r} is no ONNX file, or a part of one: export the model again") from error
    if not model.graph.node:
        raise UserError(f"{str(path)!r} is no ONNX file, or an empty one: export the model again")
    return model


def options(threads: int = 1) -> SessionOptions:
    """How every session runs: all optimizations, denormal numbers as they are, and threads that do not spin.

    A pool that spins while it waits takes the cores from whatever is timed after it.
    """
    found = onnxruntime().SessionOptions()
    found.intra_op_num_threads, found.inter_op_num_threads = threads, 1
    found.log_severity_level = 3  # errors; an optimized graph that is saved is warned about each time
    found.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return found


def session(model: str | Path | ModelProto, given: SessionOptions | None = None, name: str = "") -> InferenceSession:
    """A session on the CPU of a file or a graph in memory. Raises `UserError` where onnxruntime cannot load it."""
    runtime = onnxruntime()
    source = str(model) if isinstance(model, str | Path) else model.SerializeToString()
    try:
        return runtime.InferenceSession(source, given or options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class
        raise UserError(f"{name or str(model)[:200]!r}: onnxruntime {runtime.__version__} cannot load it "
                        f"({_first(error)}): exports run from {OLDEST} on, pip install -U onnxruntime") from error


def checked(model: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """A model, or a copy of it, and images on the CPU, where exports are compared with it.

    Raises `UserError` for no images.
    """
    if not isinstance(images, Tensor) or not len(images):
        raise UserError("an export is checked on images: expected a tensor (B, 3, H, W) of at least one")
    away = any(parameter.device.type != "cpu" for parameter in model.parameters())
    return (deepcopy(model).cpu() if away else model), images.detach().cpu()


def run(loaded: InferenceSession, images: Tensor, outputs: list[str] | None = None) -> list[Tensor]:
    """The outputs of those names, or all, for a batch of images. Raises `UserError` where the file refuses them."""
    try:
        values = loaded.run(outputs, {loaded.get_inputs()[0].name: images.numpy()})
    except Exception as error:
        shape = tuple(images.shape)
        raise UserError(f"the exported model refuses a batch of shape {shape}: {_first(error)}") from error
    return [torch.from_numpy(value) for value in values]


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
