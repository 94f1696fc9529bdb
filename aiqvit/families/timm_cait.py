"""timm's CaiT: attention whose heads are mixed before and behind the Softmax, then blocks for the class token alone."""

from __future__ import annotations

from functools import partial

from timm.models.cait import Cait, ClassAttn, LayerScaleBlock, LayerScaleBlockClassAttn, TalkingHeadAttn
from torch import Tensor

from aiqvit.families.attention import OpenAttention, split_heads
from aiqvit.families.family import Family, feeding, scaled, writes
from aiqvit.families.timm_layers import plain
from aiqvit.quant.anatomy import Anatomy


class OpenTalkingHeads(OpenAttention):
    """Two layers mix the heads; behind the second one the weights of the values may be negative or above 1."""

    def __init__(self, source: TalkingHeadAttn) -> None:
        super().__init__()
        self.num_heads = source.num_heads
        self.qkv, self.proj, self.proj_l, self.proj_w = source.qkv, source.proj, source.proj_l, source.proj_w
        self.add_products(source.scale, weights="other")

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, C) to (B, N, C)."""
        q, k, v = split_heads(self.qkv(x), 3, self.num_heads)  # (B, H, N, D)
        scores = self.proj_l(self.qk(q * self.scale, k).permute(0, 2, 3, 1))  # (B, N, N, H)
        weights = self.proj_w(scores.softmax(dim=2)).permute(0, 3, 1, 2)  # (B, H, N, N)
        return self.proj(self.av(weights, v).transpose(1, 2).flatten(2))


class OpenClassAttention(OpenAttention):
    """The first token attends to all."""

    def __init__(self, source: ClassAttn) -> None:
        super().__init__()
        self.num_heads = source.num_heads
        self.k, self.v, self.q, self.proj = source.k, source.v, source.q, source.proj
        self.add_products(source.scale, reads=("k", "v", "q"))  # the range of the first, of all tokens, stands for all

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, C) to (B, 1, C)."""
        (q,), (k,), (v,) = (split_heads(t, 1, self.num_heads) for t in (self.q(x[:, :1]), self.k(x), self.v(x)))
        return self.proj(self.attend(q, k, v))


def block(module: LayerScaleBlock | LayerScaleBlockClassAttn) -> Anatomy:
    """A norm in front of attention and one in front of the feed-forward network."""
    return Anatomy(feeds=feeding(module, [("norm1", "attn"), ("norm2", "mlp")]), residual=writes(module, "attn", "mlp"),
                   scales=scaled(module, [("attn", "gamma_1"), ("mlp", "gamma_2")]))


FAMILY = Family(
    opens={TalkingHeadAttn: OpenTalkingHeads, ClassAttn: OpenClassAttention},
    describes={LayerScaleBlock: block, LayerScaleBlockClassAttn: block},
    networks={Cait: partial(plain, stacks=("blocks", "blocks_token_only"))},
)
