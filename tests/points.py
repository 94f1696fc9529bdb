"""What tests of point tasks share."""

from pathlib import Path

import torch
from aiqvit.tasks.models.point_transformer import PointTransformer
from safetensors.torch import save_file


def weights(path: Path, kind: type[PointTransformer] = PointTransformer, channels: int = 6, classes: int = 3) -> str:
    """Write random weights of a tiny network and return where they are."""
    torch.manual_seed(0)
    save_file(kind(channels, classes, (8, 16), 8).state_dict(), path)
    return str(path)
