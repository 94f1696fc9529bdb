"""What a quantized model is, in words and numbers."""

from __future__ import annotations

import torch
from torch import nn

from aiqvit.api.data import Data, batches
from aiqvit.api.devices import device_of
from aiqvit.deploy.info import info_of
from aiqvit.interfaces import Coverage, UserError
from aiqvit.io.escape import line, terminal
from aiqvit.quant.card import format_card, scheme_card
from aiqvit.quant.coverage import coverage as counted


def card(model: nn.Module) -> str:
    """How a quantized model was made, what share of it is quantized, and each kind of quantizer with its bits.

    >>> print(card(q))  # doctest: +ELLIPSIS
    RepQ-ViT, 4/8 bits, seed 0, preset quick, calibrated on 8 samples
      coverage 100.00% of ... M multiply-accumulates on quantized operands
      activation  8 bit uniform per tensor: ...
      ...

    Raises `UserError` for a model that is not quantized.
    """
    info = info_of(model)
    made = f"{info.title}, {info.bits} bits, seed {info.seed}, preset {info.preset}"
    lines = [f"{made}, calibrated on {info.samples} samples", info.note, *info.rewritten, str(info.covered or "")]
    return terminal("\n  ".join(filter(None, map(line, lines))) + f"\n{format_card(scheme_card(model))}")


@torch.no_grad()
def coverage(model: nn.Module, data: Data | None = None) -> Coverage:
    """The shares of all multiply-accumulates that run on quantized operands, on one or none.

    >>> coverage(q).quantized
    1.0

    As counted when the model was quantized, or anew on the first sample of `data`. Raises `UserError` for a model that
    is not quantized.
    """
    info = info_of(model)
    if data is None:
        if info.covered is None:
            raise UserError("the coverage of this model was not counted: give data, coverage(model, images)")
        return info.covered
    sample = batches(data, 1)[0].to(device_of(model))
    return counted(model, lambda net: net(sample))
