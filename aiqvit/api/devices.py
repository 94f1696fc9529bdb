"""Where a model runs, and how it is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from aiqvit.interfaces import UserError


def place(device: str) -> str:
    """`cpu`, `cuda` or another device of torch's; `auto` is a GPU where there is one. Raises `UserError` for others."""
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else str(device)
    try:
        torch.zeros(1, device=wanted).item()  # the meta device has no values
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {wanted!r}: {str(error).splitlines()[0][:200]}; give cpu, cuda or cuda:0") from error
    return wanted


def device_of(model: nn.Module) -> torch.device:
    """Where the parameters of a model are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextmanager
def evaluated(model: nn.Module, device: str | torch.device | None = None) -> Iterator[nn.Module]:
    """The model in evaluation mode, on a device if one is given; it is left as it was, each module in its own mode."""
    home, modes = device_of(model), [(module, module.training) for module in model.modules()]
    try:
        yield model.eval() if device is None else model.to(device).eval()
    finally:
        model.to(home)
        for module, mode in modes:
            module.training = mode
