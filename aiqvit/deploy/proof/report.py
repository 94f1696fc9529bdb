"""Everything that proves one export, as a few lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from aiqvit.deploy.proof.floor import Floor, logit_floor
from aiqvit.deploy.proof.kernels import Kernels, count_kernels
from aiqvit.deploy.proof.latency import Latency, measure
from aiqvit.deploy.proof.parity import Parity, layer_parity
from aiqvit.deploy.proof.runtime import plain
from aiqvit.quant.quantizers import Quantizer

if TYPE_CHECKING:
    from aiqvit.deploy.onnx.export import Exported

LAYER_IMAGES = 8  # images that layers are compared on, at most


@dataclass(frozen=True)
class Size:
    """Of a file in bytes, and of all parameters of its model in float32."""

    file: int
    fp32: int

    @property
    def ratio(self) -> float:
        """The file's part of float32."""
        return self.file / self.fp32

    def __str__(self) -> str:
        return f"{self.file / 1e6:.2f} MB, {self.ratio:.3f} of the {self.fp32 / 1e6:.2f} MB of float32"


@dataclass(frozen=True)
class Proof:
    """What was checked of an export; None for what was not."""

    path: Path
    size: Size
    kernels: Kernels | None = None
    parity: Parity | None = None
    floor: Floor | None = None
    latency: Latency | None = None
    inputs: str = ""  # what it was checked on, where that is not data of the user's

    @property
    def missed(self) -> list[str]:
        """What does not meet its target, a sentence each; empty for an export that is right."""
        found = []
        if self.kernels is not None and self.kernels.missed:
            found.append(f"{_count(self.kernels.missed, 'product')} not on integer kernels as promised")
        if self.parity is not None and self.parity.missed:
            found.append(f"{_count(self.parity.missed, 'layer or product')} unlike torch's")
        return found + (self.floor.missed if self.floor is not None else [])

    def __str__(self) -> str:
        checks = {"kernels": self.kernels, "parity": self.parity, "outputs": self.floor}
        parts = {"size": self.size, **checks, "latency": self.latency}
        lines = [f"  {name:<8} " + str(part).replace("\n", f"\n{'':11}") for name, part in parts.items()
                 if part is not None]
        done = ", ".join(name for name, part in checks.items() if part is not None)
        verdict = f"  MISSED: {'; '.join(self.missed)}" if self.missed else f"  all targets met: {done}"
        where = f"{self.path} ({self.inputs})" if self.inputs else str(self.path)
        return "\n".join([where, *lines, *([verdict] if done else [])])


def _count(names: list[str], what: str) -> str:
    return f"{len(names)} {what}{'s are' if len(names) > 1 else ' is'}"


def float_size(model: nn.Module) -> int:
    """Bytes of the parameters of the layers of a model in float32, without those of its quantizers."""
    own = {id(p) for module in model.modules() if isinstance(module, Quantizer) for p in module.parameters()}
    return sum(4 * p.numel() for p in model.parameters() if id(p) not in own)


def prove(model: nn.Module, exported: Exported, images: Tensor, *, fp32: Path | None = None, rounds: int = 9,
          batches: Sequence[int] = (1, 8), threads: Sequence[int] = (1,),
          progress: Callable[..., Iterable] = plain) -> Proof:
    """Check an export of a quantized model on images (B, 3, H, W): size, kernels, parity, outputs.

    With `fp32`, a file of the float model, latency is measured beside it, else not at all. Raises `UserError` for a
    file that is not an export of this model.
    """
    kernels = count_kernels(exported.path, exported.products)
    parity = layer_parity(model, exported.path, images[:LAYER_IMAGES], progress=progress)
    floor = logit_floor(model, exported.path, images, progress=progress)
    latency = None
    if fp32 is not None and rounds:
        latency = measure({"fp32": fp32, "quantized": exported.path}, images, batches=batches, threads=threads,
                          rounds=rounds, progress=progress)
    size = Size(exported.size, float_size(model))
    return Proof(exported.path, size, kernels, parity, floor, latency)
