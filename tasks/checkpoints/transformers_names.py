"""ViT, DeiT and Swin of the transformers library under timm's names; query, key and value become one layer."""

from __future__ import annotations

import re

from torch import Tensor, cat

State = dict[str, Tensor]
PATCHES = "embeddings.patch_embeddings.projection.weight"  # in all three families, and in no other library
HEADS = ("vit.", "deit.", "swin.")
BUFFERS = ("relative_position_index", "attn_mask", "mask_token", "position_ids")

_BLOCK = (
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.self\.relative_position_bias_table$", ".attn.relative_position_bias_table"),
)
_VIT = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"^(classifier|cls_classifier)\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
)
_SWIN = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^encoder\.layers\.(\d+)\.downsample\.", lambda found: f"layers.{int(found[1]) + 1}.downsample."),
    (r"^encoder\.layers\.", "layers."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head.fc."),
)


def is_transformers(state: State) -> bool:
    """Whether the keys are those of transformers' ViT, DeiT or Swin, behind any prefix."""
    return any(key.endswith(PATCHES) for key in state) and any("attention.query.weight" in k or "self.query.weight" in k
                                                               for k in state)


def to_timm(state: State) -> State:
    """The state under timm's names, the pooler and masked-image parts left out."""
    state = _plain_names(state)
    swin = any(key.startswith("encoder.layers.") for key in state)
    found: State = {}
    for key, value in state.items():
        if key.startswith("pooler.") or key.endswith(BUFFERS) or ".key." in key or ".value." in key:
            continue
        if ".query." in key:
            parts = [state.get(key.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
            if any(part is None for part in parts):
                continue  # the missing layer is then named by what loads the state
            value, key = cat(parts), re.sub(r"\.attention\.(attention|self)\.query\.", ".attn.qkv.", key)
        for old, new in (*_BLOCK, *(_SWIN if swin else _VIT)):
            key = re.sub(old, new, key)
        found[key] = value
    return found


def _plain_names(state: State) -> State:
    """Without `vit.` and whatever stands before it: the network's parts from `embeddings.`, the classifier beside."""
    prefix = next(key for key in state if key.endswith(PATCHES)).removesuffix(PATCHES)
    outer = next((prefix.removesuffix(name) for name in HEADS if prefix.endswith(name)), prefix)
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    beside = {k.removeprefix(outer): v for k, v in state.items() if k.startswith(outer) and not k.startswith(prefix)}
    return beside | found
