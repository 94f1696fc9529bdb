"""The same function in another basis: LayerNorms become RMSNorms, and the residual stream is rotated.

S. Ashkboos et al., "SliceGPT" (ICLR 2024), https://arxiv.org/abs/2401.15024, Section 3, for the norms, and "QuaRot"
(NeurIPS 2024), https://arxiv.org/abs/2404.00456, Section 4, for the rotations; of vision transformers GLF-Q (2026).

A LayerNorm subtracts the mean of each token, divides by its deviation and has an affine part. Its affine part goes into
the layers that read it. Its mean is 0 where all that writes to the residual stream has mean 0, by M = I - 1 1^T / C:
what is left is an RMSNorm. That commutes with every rotation R of the C channels, so that what writes is multiplied by
M R and what reads by R^T, once and for all, and no output changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from aiqvit.interfaces import UserError
from aiqvit.quant.anatomy import described, norm_readers, under
from aiqvit.transforms.hadamard import rotation


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight + bias, over the last dimension (C,)."""

    def __init__(self, size: int, eps: float, like: Tensor) -> None:
        """Weight 1 and bias 0, of the type and on the device of `like`."""
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size, dtype=like.dtype, device=like.device), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros_like(self.weight), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C)."""
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight + self.bias


class Turned(nn.Sequential):
    """A norm with which a residual stream begins, and behind it the matrix (C, C) of the new basis."""


@dataclass(frozen=True)
class Stream:
    """What touches a residual stream of C channels, by names in the model."""

    origins: tuple[str, ...]  # layers, parameters or a norm that it begins with
    writers: dict[str, str]  # layers whose output is added to it -> the parameter that scales it, empty for none
    readers: dict[str, tuple[str, ...]]  # LayerNorms that read it -> the layers behind each


def stream_of(model: nn.Module) -> Stream:
    """The residual stream of an open model. Raises `UserError` where it cannot be rewritten, and says why."""
    said = f"the residual stream of {type(model).__name__} cannot be rotated"
    networks = [(name, anatomy) for name, _, anatomy in described(model) if anatomy.units]
    if len(networks) != 1 or not networks[0][1].origins:
        raise UserError(f"{said}: {_why(model)}")
    prefix, network = networks[0]
    behind = [under(prefix, layer) for layers in network.feeds.values() for layer in layers]
    blocks = [(name, anatomy) for name, _, anatomy in described(model) if anatomy.residual
              and not any(layer.startswith(f"{name}.") for layer in behind)]  # pooling has a stream of its own
    readers, writers = {}, {}
    for name, anatomy in [*blocks, (prefix, network)]:
        if anatomy.unnormed or name != prefix and not anatomy.feeds:
            raise UserError(f"{said}: layers of {name} read it itself, or through a norm that is no "
                            "LayerNorm with weight and bias")
        readers |= {under(name, norm): tuple(under(name, layer) for layer in layers)
                    for norm, layers in anatomy.feeds.items()}
        writers |= {under(name, layer): under(name, anatomy.scales[layer]) if layer in anatomy.scales else ""
                    for layer in anatomy.residual}
    if any(isinstance(model.get_submodule(norm), RMSNorm) for norm in readers):
        raise UserError(f"{said}: it is rotated already")
    if not network.feeds:
        raise UserError(f"{said}: what reads the last norm is not known")
    return Stream(tuple(under(prefix, name) for name in network.origins), writers, readers)


def _why(model: nn.Module) -> str:
    """Why there is no stream of which a family says where it begins."""
    widths = {model.get_submodule(norm).weight.shape for norm, _ in norm_readers(model)}
    if not widths:
        return "it has no LayerNorms in front of layers"
    return "its width changes from stage to stage" if len(widths) > 1 else "no family says where it begins"


@torch.no_grad()
def rotate(model: nn.Module, generator: Generator) -> None:
    """Rewrite an open model in place; in evaluation it gives what it gave before. Raises `UserError` as `stream_of`."""
    stream = stream_of(model)
    norm = model.get_submodule(next(iter(stream.readers)))
    size = norm.normalized_shape[0]
    turn = rotation(size, generator).to(norm.weight.device)  # R, (C, C)
    into = turn - turn.mean(0)  # M R
    for name in stream.origins:
        _begin(model, name, into)
    for name, scale in stream.writers.items():
        gamma = model.get_parameter(scale).double() if scale else torch.ones(size).to(into)  # (C,)
        _write(model.get_submodule(name), gamma[:, None] * into)
    for scale in filter(None, stream.writers.values()):  # several layers may share one
        model.get_parameter(scale).fill_(1)
    for name, layers in stream.readers.items():
        norm = model.get_submodule(name)
        for layer in layers:
            _read(model.get_submodule(layer), norm, turn)
        model.set_submodule(name, RMSNorm(size, norm.eps, norm.weight))


@torch.no_grad()
def rotate_heads(model: nn.Module, generator: Generator) -> list[str]:
    """Rotate queries with keys, and values with the output layer, in each head of an open model, in place.

    Returns the attention modules of which something was rotated. Where norms, gates or position embeddings stand
    between, that part is left as it is.
    """
    found = []
    for name, module, anatomy in described(model):
        heads = anatomy.heads
        for parts, output in ((heads.products, ""), (heads.values, heads.output)) if heads else ():
            if not parts:
                continue
            layer, _, count = parts[0]
            weight = module.get_submodule(layer).weight
            turn = rotation(weight.shape[0] // count // heads.count, generator).to(weight.device)  # (D, D)
            for part in parts:
                _turn_rows(module, part, heads.padding, turn)
            if output:
                _turn_columns(module.get_submodule(output), turn)
            found.append(name)
    return list(dict.fromkeys(found))


def _turn_rows(module: nn.Module, part: tuple[str, int, int], padding: str, turn: Tensor) -> None:
    """Let a part of a layer give y R where it gave y, in each head (D,), and so what stands for it as `padding`."""
    name, index, count = part
    layer = module.get_submodule(name)
    rows = layer.weight.chunk(count)[index]  # (H D, in), a view
    rows.copy_((turn.T @ rows.double().unflatten(0, (-1, len(turn)))).flatten(0, 1))
    for vector in (layer.bias, getattr(module, padding) if padding else None):
        if vector is not None:
            own = vector.chunk(count)[index]  # (H D,)
            own.copy_((own.double().unflatten(0, (-1, len(turn))) @ turn).flatten())


def _turn_columns(layer: nn.Linear, turn: Tensor) -> None:
    """Let a layer take y R for y, in each head, and give what it gave before."""
    layer.weight.copy_((layer.weight.double().unflatten(1, (-1, len(turn))) @ turn).flatten(1))


def _begin(model: nn.Module, name: str, into: Tensor) -> None:
    """Put a layer, a parameter (..., C) or a norm with which the stream begins into the new basis."""
    try:
        module = model.get_submodule(name)
    except AttributeError:
        parameter = model.get_parameter(name)
        parameter.copy_(parameter.double() @ into)
        return
    if isinstance(module, nn.Linear | nn.Conv2d):
        _write(module, into)
        return
    change = nn.Linear(len(into), len(into), bias=False).to(module.weight)
    change.weight.copy_(into.T)
    model.set_submodule(name, Turned(module, change.requires_grad_(False)))


def _write(layer: nn.Linear | nn.Conv2d, into: Tensor) -> None:
    """Let a layer give y `into` (C, C) where it gave y (..., C)."""
    weight = into.T @ layer.weight.double().flatten(1)  # (C, in)
    layer.weight.copy_(weight.view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(layer.bias.double() @ into)


def _read(layer: nn.Linear, norm: nn.LayerNorm, turn: Tensor) -> None:
    """Let a layer take the rotated, normalized stream without the norm's affine part, and give what it gave before."""
    weight = layer.weight.double()  # (out, C)
    bias = weight @ norm.bias.double()
    layer.weight.copy_(weight * norm.weight.double() @ turn)
    if layer.bias is not None:
        layer.bias.copy_(layer.bias.double() + bias)
    elif bias.abs().max() > 0:
        layer.bias = nn.Parameter(bias.to(layer.weight), requires_grad=False)
