"""Layer by layer and product by product: each one of the torch model is fed what the exported one got.

Whole models cannot agree better than a float model agrees with itself (see `floor`): a difference in the last digit
flips codes at rounding borders and layers amplify it. One layer, fed the very same input, can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aiqvit.deploy.proof.graph import as_float, landing, value_names
from aiqvit.deploy.proof.runtime import checked, plain, read, run, session
from aiqvit.interfaces import UserError
from aiqvit.quant.layers import QuantConv2d, QuantLayer
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.surgery import quant_layers, quant_products

if TYPE_CHECKING:
    from onnx import ModelProto

FLIP = 1e-4  # of the largest output: more than arithmetic in another order does, less than a code does
FLIPS = 0.01  # of the outputs of a layer, at most, beside twice those of torch in float64 against torch in float32
ELSEWHERE = 1e-4  # relative difference, at most
FEATURE = 5e-5  # of the largest output, in more than half of the rows of a feature: flips are in few rows
AT_ONCE = 12  # layers whose values are in memory at a time


@dataclass(frozen=True)
class Match:
    """How one layer or product agrees with its counterpart in torch on the same input."""

    name: str
    flips: float  # share of outputs that differ by more than 1e-4 of the largest: an input code flipped
    elsewhere: float  # of the other outputs, norm of the difference relative to their norm
    feature: float  # largest over output features of the median difference, relative to the largest output
    floor: float = 0.0  # flips of torch in float64 on this input: many where inputs lie on borders between codes

    @property
    def fine(self) -> bool:
        """Whether it meets the target. A feature that is off in most rows is a wrong weight, not a flipped code."""
        return self.flips <= FLIPS + 2 * self.floor and self.elsewhere <= ELSEWHERE and self.feature <= FEATURE

    def __str__(self) -> str:
        return (f"{self.name} ({self.flips:.2%} flips where torch in float64 has {self.floor:.2%}, "
                f"{self.elsewhere:.1e} elsewhere, {self.feature:.1e} in a feature)")


@dataclass(frozen=True)
class Parity:
    """All layers and products of a model, on so many images."""

    matches: tuple[Match, ...]
    images: int

    @property
    def missed(self) -> list[str]:
        """Layers and products that miss the target, the worst first."""
        bad = [match for match in self.matches if not match.fine]
        return [str(match) for match in sorted(bad, key=lambda match: (-match.flips, -match.feature))]

    def __str__(self) -> str:
        flips = [match.flips for match in self.matches]
        most = max(self.matches, key=lambda match: match.flips)
        fine = len(self.matches) - len(self.missed)
        text = (f"{fine} of {len(self.matches)} layers and products equal torch's on {self.images} images: flips "
                f"{sum(flips) / len(flips):.3%} of outputs, at most {most.flips:.2%} in one"
                + (f" (where torch in float64 has {most.floor:.2%})" if most.flips > FLIPS else "")
                + f"; elsewhere a relative difference of at most {max(match.elsewhere for match in self.matches):.1e}")
        return text + (f"; DIFFERENT: {', '.join(self.missed[:5])}" if self.missed else "")


@torch.no_grad()
def layer_parity(model: nn.Module, path: str | Path, images: Tensor, *,
                 progress: Callable[..., Iterable] = plain) -> Parity:
    """Compare every quantized layer and product of a model with the file made of it, on images (B, 3, H, W).

    Values of a dozen layers are in memory at a time. Raises `UserError` for a file that is no ONNX, cannot be loaded,
    or does not name the values of these layers.
    """
    model, images = checked(model, images)
    modules = _used(model, dict(quant_layers(model)) | dict(quant_products(model)), images)
    if not modules:
        raise UserError("the model has no quantized layer to compare with its export")
    graph = read(path)
    _require(graph, modules, str(path))
    names = list(modules)
    parts = [names[i:i + AT_ONCE] for i in range(0, len(names), AT_ONCE)]
    matches = [match for part in progress(parts, "layer by layer")
               for match in _part(modules, part, graph, images, str(path))]
    return Parity(tuple(matches), len(images))


def _used(model: nn.Module, modules: dict[str, nn.Module], images: Tensor) -> dict[str, nn.Module]:
    """The modules that a forward pass calls: a head of training alone, for example, is in no file."""
    called = set()
    hooks = [module.register_forward_hook(lambda *_, name=name: called.add(name)) for name, module in modules.items()]
    try:
        model(images[:1])
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"the model refuses a batch of shape {tuple(images[:1].shape)}: {reason}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return {name: module for name, module in modules.items() if name in called}


def _part(modules: dict[str, nn.Module], names: Sequence[str], graph: ModelProto, images: Tensor,
          path: str) -> Iterator[Match]:
    wanted = [f"{name}:{end}" for name in names for end in _ends(modules[name])]
    copy, outputs = exposing(graph, wanted)
    values = dict(zip(wanted, run(session(copy, name=path), images, outputs), strict=True))
    for name in names:
        *inputs, given = (values[f"{name}:{end}"] for end in _ends(modules[name]))
        outputs = [given, *(_output(modules[name], inputs, precision) for precision in (torch.float32, torch.float64))]
        if (reader := landing(graph, f"{name}:out")) in modules and _on_grid(modules[reader], given):
            outputs = [modules[reader].input_quantizer(output) for output in outputs]
        if isinstance(modules[name], QuantConv2d):
            outputs = [output.movedim(1, -1) for output in outputs]
        yield match(name, *outputs)


def _output(module: nn.Module, inputs: Sequence[Tensor], precision: torch.dtype) -> Tensor:
    """What a module gives in a precision, in float32."""
    exact = module if precision == torch.float32 else deepcopy(module).to(precision)
    return exact(*(value.to(precision) for value in inputs)).float()


def _on_grid(reader: nn.Module, values: Tensor) -> bool:
    """Whether onnxruntime has rounded a product to the codes of the layer that reads it, before they are clipped."""
    quantizer = getattr(reader, "input_quantizer", None)
    if not isinstance(quantizer, Uniform) or quantizer.axis is not None:
        return False
    low, high = quantizer.decode(torch.tensor([0, quantizer.levels - 1])).tolist()
    return torch.allclose(quantizer(values), values.clamp(low, high), rtol=1e-5, atol=1e-7)


def match(name: str, given: Tensor, expected: Tensor, exact: Tensor | None = None) -> Match:
    """Compare two outputs, (..., features); `exact` is what is expected in float64.

    Raises `UserError` where their shapes differ.
    """
    if given.shape != expected.shape:
        raise UserError(f"{name}: the export gives a shape {tuple(given.shape)} and torch {tuple(expected.shape)}: it "
                        "is not an export of this model")
    top = expected.abs().max().clamp(min=1e-12)
    off = (given - expected).abs()
    same = off <= FLIP * top
    size = expected[same].norm().clamp(min=1e-12)
    feature = off.flatten(0, -2).median(0).values.max() / top
    floor = 0.0 if exact is None else ((exact - expected).abs() > FLIP * top).float().mean().item()
    return Match(name, 1 - same.float().mean().item(), (off[same].norm() / size).item(), feature.item(), floor)


def exposing(graph: ModelProto, names: Iterable[str]) -> tuple[ModelProto, list[str]]:
    """A copy whose further outputs are these values, as floats, and what they are called there."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    outputs = [as_float(copy, name) for name in names]
    present = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name not in present)
    return copy, outputs


def _ends(module: nn.Module) -> tuple[str, ...]:
    return ("in", "out") if isinstance(module, QuantLayer) else ("left", "right", "out")


def _require(graph: ModelProto, modules: dict[str, nn.Module], path: str) -> None:
    there = value_names(graph.graph)
    absent = [f"{name}:{end}" for name, module in modules.items() for end in _ends(module)
              if f"{name}:{end}" not in there]
    if absent:
        raise UserError(f"{path!r} has no value named {absent[0]!r}: it is not an export of this model by aiqvit")
