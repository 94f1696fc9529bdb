"""Speed of exports as one table: float, quantized models, and what the runtimes' own tools make, in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor, nn

from aiqvit.deploy.onnx.export import export_fp32, export_onnx
from aiqvit.deploy.proof.engines import has_openvino
from aiqvit.deploy.proof.kernels import count_kernels
from aiqvit.deploy.proof.latency import Latency, measure
from aiqvit.deploy.proof.references import dynamic, static
from aiqvit.deploy.proof.runtime import plain
from aiqvit.interfaces import UserError

FP32 = "fp32"


@dataclass(frozen=True)
class File:
    """A file to time: its size in bytes, the engine that runs it, and its integer products, as `74/74`."""

    path: Path
    size: int
    engine: str
    kernels: str


@dataclass(frozen=True)
class Comparison:
    """All that was timed, and a sentence for each that could not be."""

    files: Mapping[str, File]
    latency: Latency
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        runs = dict.fromkeys((t.batch, t.threads) for t in self.latency.timings)
        timed = {(t.name, t.batch, t.threads): t for t in self.latency.timings}
        cells = [["", "MB", "of fp32", *(f"batch {b}, {t} thread{'s' if t > 1 else ''}" for b, t in runs), "integer"]]
        first = next(iter(self.files.values())).size
        for name, file in self.files.items():
            times = [timed[name, batch, threads] for batch, threads in runs]
            cells.append([name, f"{file.size / 1e6:.2f}", f"{file.size / first:.3f}",
                          *(f"{x.seconds * 1e3:.1f} ms {x.ratio:.2f} x" for x in times), file.kernels])
        columns = zip(*cells, strict=True)
        aligned = [[text.rjust(max(map(len, column))) for text in column] for column in columns]
        names = [row[0].ljust(len(aligned[0][0])) for row in cells]
        lines = ["  ".join(row) for row in zip(names, *aligned[1:], strict=True)]
        note = f"x: times as fast as fp32. {self.latency.conditions}"
        return "\n".join([*lines, note, *self.left_out])


def compare(model: nn.Module, quantized: Mapping[str, nn.Module], images: Tensor, *, batches: Sequence[int] = (1, 8),
            threads: Sequence[int] = (1,), rounds: int = 9, progress: Callable[..., Iterable] = plain) -> Comparison:
    """Export a float model and quantized ones, make onnxruntime's own versions, and time all of them in turn.

    Each in onnxruntime, and the float and the quantized models in OpenVINO where it is installed. `images` (B, 3, H, W)
    are timed, and calibrated on for `quantize_static`. Files are in a temporary folder. Raises `UserError` where the
    float model cannot be exported.
    """
    with TemporaryDirectory() as name:
        files, left_out = _files(model, quantized, images, Path(name), progress)
        latency = measure({name: file.path for name, file in files.items()}, images, batches=batches, threads=threads,
                          rounds=rounds, progress=progress, engines={name: f.engine for name, f in files.items()})
    return Comparison(files, latency, tuple(left_out))


def _files(model: nn.Module, quantized: Mapping[str, nn.Module], images: Tensor, folder: Path,
           progress: Callable[..., Iterable]) -> tuple[dict[str, File], list[str]]:
    example = images[:1]
    fp32 = export_fp32(model, folder / "fp32.onnx", example)
    works: dict[str, Callable[[], File]] = {FP32: lambda: _file(fp32)}
    for i, (name, net) in enumerate(quantized.items()):
        path = folder / f"{i}.onnx"
        works[name] = lambda net=net, path=path: _exported(net, path, example)
    works["quantize_dynamic"] = lambda: _file(dynamic(fp32, folder))
    works["quantize_static"] = lambda: _file(static(fp32, folder, images))
    if has_openvino():
        works["OpenVINO fp32"] = lambda: _file(fp32, "openvino")
        for i, (name, net) in enumerate(quantized.items()):
            path = folder / f"{i}.openvino.onnx"
            works[f"OpenVINO {name}"] = lambda net=net, path=path: _exported(net, path, example, "openvino")
    files, left_out = {}, []
    for name, work in progress(list(works.items()), "exports"):
        try:
            files[name] = work()
        except UserError as error:
            left_out.append(f"{name} is left out: {error}")
    return files, left_out


def _file(path: Path, engine: str = "ort", promised: Mapping[str, str] | None = None) -> File:
    kernels = "-"
    if engine == "ort":
        found = count_kernels(path, promised or {})
        kernels = f"{found.integer}/{len(found.products)}"
    return File(path, path.stat().st_size, engine, kernels)


def _exported(net: nn.Module, path: Path, example: Tensor, engine: str = "ort") -> File:
    exported = export_onnx(net, path, example, target=engine)
    return _file(path, engine, exported.products)
