"""An ONNX file as a module, so that whatever evaluates a model evaluates the file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from aiqvit.deploy.proof import runtime


class OnnxModel(nn.Module):
    """A file in onnxruntime, on the CPU. Raises `UserError` for one that it cannot load."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.session = runtime.session(path, runtime.options(torch.get_num_threads()))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs for a batch: one tensor, or all of them."""
        found = runtime.run(self.session, x)
        return found[0] if len(found) == 1 else tuple(found)
