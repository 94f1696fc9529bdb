"""Saving a quantized model, loading it again."""

from __future__ import annotations

from argparse import ArgumentTypeError
from os import PathLike, fspath

from torch import nn

from aiqvit.deploy.pack import load_model, save_model
from aiqvit.guard import path as expanded
from aiqvit.interfaces import UserError


def save(model: nn.Module, path: str | PathLike[str]) -> int:
    """Write a quantized model as one safetensors file of packed integer codes; returns its size in bytes.

    >>> size = save(q, "q.safetensors")

    The file is written whole or not at all. docs/files.md has its format. Raises `UserError` for a model that is not
    quantized and for a place that cannot be written.
    """
    return save_model(model, file_path(path))


def load(path: str | PathLike[str], model: nn.Module | None = None) -> nn.Module:
    """The model that `save` wrote, in evaluation mode on the CPU; its outputs are those of the saved one bit for bit.

    >>> q2 = load("q.safetensors")
    >>> x = torch.randn(1, 3, 160, 160)
    >>> torch.equal(q2(x), q(x))
    True

    Neither the original weights nor any data are needed. A network that timm, torchvision or a task builds by name is
    built again; for one of your own hand over a fresh instance, `load(path, MyNetwork())`, which is changed in place.
    Raises `UserError` for a file that is missing, foreign, of another version, cut off or edited, and for a network
    that it does not fit.
    """
    return load_model(file_path(path), model)


def file_path(path: str | PathLike[str]) -> str:
    """A path with `~` expanded. Raises `UserError` for what is none."""
    try:
        return expanded(fspath(path))
    except (TypeError, ArgumentTypeError, UnicodeError) as error:
        raise UserError(f"path: {error}") from error
