"""Checkpoints of detectors: from the layout of Swin-Transformer-Object-Detection to MMDetection 3's."""

from __future__ import annotations

import re

from aiqvit.tasks.checkpoints.bounds import check_classes
from torch import Tensor, nn

from aiqvit.interfaces import UserError

State = dict[str, Tensor]
MADE = (".attn_mask", ".relative_position_index")  # buffers that follow from the architecture
HEAD = re.compile(r"roi_head\.bbox_head\.(0\.)?fc_cls\.weight$")

_RENAMED = ((r"^layers\.", "stages."), (r"\.attn\.", ".attn.w_msa."), (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
            (r"\.mlp\.fc2\.", ".ffn.layers.1."), (r"^patch_embed\.proj\.", "patch_embed.projection."))


def convert_backbone(state: State) -> State:
    """A Swin backbone in the layout of its authors, `layers.0.blocks.0.attn.qkv.weight`, to MMDetection's."""
    found = {}
    for key, value in state.items():
        if not key.endswith(MADE):
            for old, new in _RENAMED:
                key = re.sub(old, new, key)
            found[key] = unfold_order(value) if ".downsample." in key else value
    return found


def unfold_order(value: Tensor) -> Tensor:
    """Input channels of a patch merging, (..., 4 C), from concatenated blocks to the order of `nn.Unfold`.

    The authors concatenate the pixels (0, 0), (1, 0), (0, 1), (1, 1), given as (row, column), block by block; Unfold
    brings the pixels of each channel together, row by row.
    """
    blocks = value.unflatten(-1, (4, -1))  # (..., 4, C)
    return blocks[..., [0, 2, 1, 3], :].transpose(-2, -1).flatten(-2)


def is_original(state: State) -> bool:
    """Whether a detector's state has a backbone in the layout of the Swin authors."""
    return any(key.startswith("backbone.layers.") for key in state)


def convert(state: State, model: nn.Module) -> State:
    """A detector's state in the layout of `model`, from either of the two; buffers that it makes itself are its own."""
    if is_original(state):
        prefix = "backbone."
        backbone = convert_backbone({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        rest = {k: v for k, v in state.items() if not k.startswith(prefix)}
        state = {prefix + k: v for k, v in backbone.items()} | rest
    return {k: v for k, v in model.state_dict().items() if k.endswith(MADE)} | state


def classes_in(state: State, source: str) -> int:
    """How many classes the head of a detector's state has. Raises `UserError` where there is no such head."""
    weight = next((v for k, v in state.items() if HEAD.search(k)), None)
    if weight is None or not weight.dim():
        raise UserError(f"weights {source!r} are not those of a detector: no roi_head.bbox_head.fc_cls.weight among "
                        f"{len(state)} keys, the first of which is {next(iter(state), '')!r}")
    check_classes(count := len(weight) - 1, f"weights {source!r}")  # the last one is the background
    return count
