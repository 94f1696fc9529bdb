"""timm's Swin Transformer."""

from __future__ import annotations

from timm.models.swin_transformer import PatchMerging, SwinTransformer, SwinTransformerBlock, WindowAttention
from torch import Tensor, nn

from aiqvit.families.attention import OpenAttention, masked, split_heads
from aiqvit.families.family import Family, feeding, writes
from aiqvit.quant.anatomy import Anatomy


class OpenWindowAttention(OpenAttention):
    """Attention within windows, with a bias by relative position."""

    def __init__(self, source: WindowAttention) -> None:
        super().__init__()
        self.num_heads = source.num_heads
        self.qkv, self.proj = source.qkv, source.proj
        self.add_products(source.scale)
        self.relative_position_bias_table = source.relative_position_bias_table
        self.register_buffer("relative_position_index", source.relative_position_index, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B windows, N, C) to the same. `mask`: (windows, N, N), added to the scores of shifted windows."""
        q, k, v = split_heads(self.qkv(x), 3, self.num_heads)  # (B windows, H, N, D)
        scores = masked(self.qk(q * self.scale, k) + self.position_bias(), mask)
        return self.proj(self.av(scores.softmax(dim=-1), v).transpose(1, 2).flatten(2))

    def position_bias(self) -> Tensor:
        """(H, N, N), the same for every window."""
        index = self.relative_position_index
        return self.relative_position_bias_table[index.view(-1)].view(*index.shape, -1).permute(2, 0, 1)


def block(module: SwinTransformerBlock) -> Anatomy:
    """A norm in front of attention and one in front of the feed-forward network.

    A map that is no multiple of the window is padded with zeros behind the first norm; nothing can be folded into that
    one then.
    """
    whole = not module.dynamic_mask and all(
        size % window == 0 for size, window in zip(module.input_resolution, module.window_size, strict=True))
    pairs = [("norm1", "attn"), ("norm2", "mlp")] if whole else [("norm2", "mlp")]
    return Anatomy(feeds=feeding(module, pairs), residual=writes(module, "attn", "mlp"))


def merging(module: PatchMerging) -> Anatomy:
    """Four pixels side by side, a norm, one layer, which starts a new residual stream."""
    return Anatomy(roles={"reduction": "reduction"}, feeds=feeding(module, [("norm", "reduction")]),
                   residual=("reduction",))


def network(model: SwinTransformer) -> Anatomy:
    """Patch embedding, blocks and patch mergings, head."""
    units = ["patch_embed"]
    for i, stage in enumerate(model.layers):
        if not isinstance(stage.downsample, nn.Identity):
            units.append(f"layers.{i}.downsample")
        units += [f"layers.{i}.blocks.{j}" for j in range(len(stage.blocks))]
    fc = getattr(model.head, "fc", None)
    if not isinstance(fc, nn.Linear):
        return Anatomy(units=tuple(units))
    pooled = fc.in_features == model.num_features  # not of several kinds side by side
    return Anatomy(roles={"head.fc": "head"}, units=(*units, "head.fc"),
                   feeds=feeding(model, [("norm", "head.fc")]) if pooled else {})


FAMILY = Family(
    opens={WindowAttention: OpenWindowAttention},
    describes={SwinTransformerBlock: block, PatchMerging: merging},
    networks={SwinTransformer: network},
)
