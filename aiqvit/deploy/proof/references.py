"""What onnxruntime's own tools make of a float model: what an export is measured beside."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from aiqvit.deploy.proof.runtime import onnxruntime
from aiqvit.interfaces import UserError


class Batches:
    """Calibration images (B, 3, H, W) as `onnxruntime.quantization.CalibrationDataReader` gives them, a few at once."""

    def __init__(self, images: Tensor, name: str, batch: int = 4) -> None:
        self.rest = iter([{name: part.detach().cpu().numpy()} for part in images.split(batch)])

    def get_next(self) -> dict | None:
        """The next batch, or None behind the last one."""
        return next(self.rest, None)


def dynamic(fp32: Path, folder: Path) -> Path:
    """`quantize_dynamic`: int8 weights a channel, ranges of activations found at run time."""
    onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = folder / "dynamic.onnx"
    with _quiet("quantize_dynamic"):
        quantize_dynamic(_prepared(fp32, folder), path, per_channel=True, weight_type=QuantType.QInt8)
    return path


def static(fp32: Path, folder: Path, images: Tensor) -> Path:
    """`quantize_static`: QDQ, int8 weights a channel, uint8 activations with the ranges of these images."""
    runtime = onnxruntime()
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    path = folder / "static.onnx"
    prepared = _prepared(fp32, folder)
    name = runtime.InferenceSession(prepared, providers=["CPUExecutionProvider"]).get_inputs()[0].name
    with _quiet("quantize_static"):
        quantize_static(prepared, path, Batches(images, name), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return path


def _prepared(fp32: Path, folder: Path) -> Path:
    """The float model with shapes and fusions, as onnxruntime's documentation asks for before quantizing."""
    from onnxruntime.quantization import quant_pre_process

    path = folder / "prepared.onnx"
    if not path.exists():
        with _quiet("quant_pre_process"):
            quant_pre_process(str(fp32), str(path), skip_symbolic_shape=True)
    return path


@contextmanager
def _quiet(tool: str) -> Iterator[None]:
    """Without the advice that the tools log, in a folder of their own. Raises `UserError` where one of them fails."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    except Exception as error:
        raise UserError(f"onnxruntime's {tool} cannot take this model: {str(error).strip()[:200]}") from error
    finally:
        logging.disable(before)
