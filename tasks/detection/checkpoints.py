"""Checkpoints of detectors: from the layout of Swin-Transformer-Object-Detection to MMDetection 3's."""

from __future__ import annotations

from torch import Tensor

State = dict[str, Tensor]

_RENAMED = (("layers.", "stages."), (".attn.", ".attn.w_msa."), (".mlp.fc1.", ".ffn.layers.0.0."),
            (".mlp.fc2.", ".ffn.layers.1."), ("patch_embed.proj.", "patch_embed.projection."))


def convert_backbone(state: State) -> State:
    """A Swin backbone in the layout of its authors, `layers.0.blocks.0.attn.qkv.weight`, to MMDetection's."""
    found = {}
    for key, value in state.items():
        if ".downsample." in key:
            value = unfold_order(value)
        if not key.endswith((".attn_mask", ".relative_position_index")):  # buffers that the model makes itself
            for old, new in _RENAMED:
                key = key.replace(old, new) if "." in old[1:] or key.startswith(old) else key
            found[key] = value
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


def convert(state: State) -> State:
    """A detector's state in MMDetection 3's layout, whichever of the two it is in."""
    if not is_original(state):
        return state
    prefix = "backbone."
    backbone = convert_backbone({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    rest = {k: v for k, v in state.items() if not k.startswith(prefix)}
    return {prefix + k: v for k, v in backbone.items()} | rest
