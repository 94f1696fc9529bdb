"""timm's Swin Transformer V2: cosine attention, a continuous position bias, norms behind the branches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from timm.models.swin_transformer_v2 import PatchMerging, SwinTransformerV2, SwinTransformerV2Block, WindowAttention
from torch import Tensor, nn

from aiqvit.families.attention import OpenAttention, masked, split_heads, with_bias
from aiqvit.families.family import Family, read_by
from aiqvit.families.timm_swin import network
from aiqvit.quant.anatomy import Anatomy


class CosineAttention(OpenAttention):
    """Attention by the cosine of query and key, which are quantized when they have length 1.

    The network that makes the position bias sees nothing but constant coordinates: what it gives is kept in its place.
    """

    def take_cosine(self, source: nn.Module) -> None:
        """Take over the scale of the scores, (H, 1, 1), and the position bias of a window."""
        self.num_heads, self.proj, self.logit_scale = source.num_heads, source.proj, source.logit_scale
        with torch.no_grad():
            table = 16 * source.cpb_mlp(source.relative_coords_table).sigmoid()
        self.register_buffer("relative_position_bias_table", table.flatten(0, -2))  # ((2 h - 1) (2 w - 1), H)
        self.register_buffer("relative_position_index", source.relative_position_index, persistent=False)

    def cosine(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q, k, v (B windows, H, N, D) to (B windows, N, H D). `mask` (windows, N, N) is added to the scores."""
        N = q.shape[2]
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)].view(N, N, -1).permute(2, 0, 1)
        scores = self.qk(F.normalize(q, dim=-1), F.normalize(k, dim=-1))  # (B windows, H, N, N)
        scores = masked(scores * self.logit_scale.clamp(max=math.log(100)).exp() + bias, mask)
        return self.av(scores.softmax(dim=-1), v).transpose(1, 2).flatten(2)


class CosineWindowAttention(CosineAttention):
    """timm's WindowAttention of version 2; the bias of its qkv stands in parts beside the layer."""

    def __init__(self, source: WindowAttention) -> None:
        super().__init__()
        self.take_cosine(source)
        self.qkv = with_bias(source.qkv, source.q_bias, source.k_bias, source.v_bias)
        self.add_products(1.0)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B windows, N, C) to the same."""
        return self.proj(self.cosine(*split_heads(self.qkv(x), 3, self.num_heads), mask))


def block(module: SwinTransformerV2Block) -> Anatomy:
    """The norms stand behind attention and feed-forward network and feed no layer."""
    return Anatomy(residual=("norm1", "norm2"), unnormed=read_by(module, "attn", "mlp"))


def merging(module: PatchMerging) -> Anatomy:
    """Four pixels side by side, one layer, and a norm behind it, which starts a new residual stream."""
    return Anatomy(roles={"reduction": "reduction"}, reads=("reduction",), residual=("norm",),
                   unnormed=("reduction",))


FAMILY = Family(
    opens={WindowAttention: CosineWindowAttention},
    describes={SwinTransformerV2Block: block, PatchMerging: merging},
    networks={SwinTransformerV2: network},
)
