"""The device that a text means."""

from __future__ import annotations

import torch

from aiqvit.interfaces import UserError


def place(device: str) -> str:
    """`cpu`, `cuda` or another device of torch's; `auto` is a GPU where there is one. Raises `UserError` for others."""
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else str(device)
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {wanted!r}: {str(error).splitlines()[0]}; give cpu, cuda or cuda:0") from error
    return wanted
