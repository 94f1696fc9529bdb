"""timm's BEiT: a bias of the scores by relative position, one for each block or one for all."""

from __future__ import annotations

from timm.models.beit import Attention, Beit, Block
from torch import Tensor

from aiqvit.families.attention import OpenAttention, split_heads, with_bias
from aiqvit.families.family import Family, feeding, scaled, writes
from aiqvit.families.timm_layers import plain
from aiqvit.quant.anatomy import Anatomy


class BeitAttention(OpenAttention):
    """Fused qkv, whose bias stands in parts beside the layer."""

    def __init__(self, source: Attention) -> None:
        super().__init__()
        self.num_heads = source.num_heads
        self.qkv, self.proj = with_bias(source.qkv, source.q_bias, source.k_bias, source.v_bias), source.proj
        self.relative_position_bias_table = source.relative_position_bias_table  # None without a bias of its own
        self.register_buffer("relative_position_index", source.relative_position_index, persistent=False)
        self.add_products(source.scale)

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        """x: (B, N, C) to (B, N, C). `shared_rel_pos_bias`: ([1,] H, N, N), of all blocks."""
        q, k, v = split_heads(self.qkv(x), 3, self.num_heads)  # (B, H, N, D)
        bias = shared_rel_pos_bias
        if self.relative_position_bias_table is not None:
            index = self.relative_position_index
            own = self.relative_position_bias_table[index.view(-1)].view(*index.shape, -1).permute(2, 0, 1)  # (H, N, N)
            bias = own if bias is None else own + bias
        return self.proj(self.attend(q, k, v, bias))


def block(module: Block) -> Anatomy:
    """A norm in front of attention and one in front of the feed-forward network."""
    return Anatomy(feeds=feeding(module, [("norm1", "attn"), ("norm2", "mlp")]), residual=writes(module, "attn", "mlp"),
                   scales=scaled(module, [("attn", "gamma_1"), ("mlp", "gamma_2")]))


FAMILY = Family(opens={Attention: BeitAttention}, describes={Block: block}, networks={Beit: plain})
