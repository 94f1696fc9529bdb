"""What runs an ONNX file: onnxruntime, and OpenVINO where it is installed. Each gives a function of one batch."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from numpy import ndarray

from aiqvit.deploy.proof.runtime import options, session
from aiqvit.interfaces import UserError

Engine = Callable[[ndarray], object]


def ort(path: Path, threads: int = 1) -> Engine:
    """onnxruntime on the CPU. Raises `UserError` where it cannot load the file."""
    loaded = session(path, options(threads))
    name = loaded.get_inputs()[0].name
    return lambda images: loaded.run(None, {name: images})


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def openvino(path: Path, threads: int = 1) -> Engine:
    """OpenVINO on the CPU, one stream. Raises `UserError` where it is not installed or cannot load the file."""
    try:
        import openvino
    except ImportError as error:
        raise UserError("timing OpenVINO needs it: pip install openvino") from error
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", {
            "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32"})  # float products in float32, as onnxruntime does, not in bfloat16
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise UserError(f"{str(path)!r}: OpenVINO {openvino.__version__} cannot load it ({reason})") from error
    request = compiled.create_infer_request()
    return lambda images: request.infer([images])
