"""timm's parallel blocks (Dehghani et al. 2023): attention and feed-forward network side by side, fused layers."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import DiffParallelScalingBlock, ParallelScalingBlock
from torch import Tensor

from aiqvit.families.attention import OpenAttention, mask_bias
from aiqvit.families.family import activation, feeding, scales
from aiqvit.families.timm_diff import OpenDifference
from aiqvit.quant.anatomy import Anatomy


class ParallelBlock(OpenAttention):
    """timm's ParallelScalingBlock: one layer in for attention and feed-forward network, one or two layers out."""

    def __init__(self, source: ParallelScalingBlock) -> None:
        super().__init__()
        self.num_heads, self.split = source.num_heads, source.in_split
        self.in_norm, self.in_proj, self.mlp_bias = source.in_norm, source.in_proj, source.mlp_bias
        self.out_proj = source.out_proj
        self.attn_out_proj, self.mlp_out_proj = source.attn_out_proj, source.mlp_out_proj
        self.q_norm, self.k_norm, self.mlp_act, self.ls = source.q_norm, source.k_norm, source.mlp_act, source.ls
        self.add_products(source.scale, reads=("in_proj",))
        self.anatomy = parallel_block(self)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x: (B, N, C) to (B, N, C)."""
        B, N, _ = x.shape
        hidden, *qkv = self.in_proj(self.in_norm(x)).split(self.split, dim=-1)
        if self.mlp_bias is not None:
            hidden = hidden + self.mlp_bias
        q, k, v = (t.view(B, N, self.num_heads, -1) for t in qkv)
        q, k, v = self.q_norm(q).transpose(1, 2), self.k_norm(k).transpose(1, 2), v.transpose(1, 2)  # (B, H, N, D)
        attended, hidden = self.attend(q, k, v, mask_bias(attn_mask, is_causal, q)), self.mlp_act(hidden)
        if self.out_proj is not None:
            return x + self.ls(self.out_proj(torch.cat((attended, hidden), dim=-1)))
        return x + self.ls(self.attn_out_proj(attended) + self.mlp_out_proj(hidden))


class DiffParallelBlock(OpenDifference):
    """timm's DiffParallelScalingBlock: one layer in, one layer out, differential attention."""

    def __init__(self, source: DiffParallelScalingBlock) -> None:
        super().__init__()
        self.take_difference(source)
        self.split = source.in_split
        self.in_norm, self.in_proj, self.mlp_bias = source.in_norm, source.in_proj, source.mlp_bias
        self.out_proj, self.mlp_act, self.ls = source.out_proj, source.mlp_act, source.ls
        self.add_products(source.scale, reads=("in_proj",))
        self.anatomy = parallel_block(self)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x: (B, N, C) to (B, N, C)."""
        hidden, q, k, v = self.in_proj(self.in_norm(x)).split(self.split, dim=-1)
        if self.mlp_bias is not None:
            hidden = hidden + self.mlp_bias
        attended = self.differ(q, k, v, attn_mask, is_causal)
        return x + self.ls(self.out_proj(torch.cat((attended, self.mlp_act(hidden)), dim=-1)))


def parallel_block(block: ParallelBlock | DiffParallelBlock) -> Anatomy:
    """Separate output layers have inputs of their own kind; a fused one takes both."""
    kind = activation(block.mlp_act, "mlp_act")
    separate = block.out_proj is None
    outs = ("attn_out_proj", "mlp_out_proj") if separate else ("out_proj",)
    roles = {"in_proj": "qkv"} | ({"attn_out_proj": "proj", "mlp_out_proj": "fc2"} if separate else {"out_proj": "fc2"})
    return Anatomy(roles=roles, feeds=feeding(block, [("in_norm", "in_proj")]), residual=outs,
                   scales=scales(block, "ls", outs), activations={"mlp_out_proj": kind} if separate else {},
                   functions={"mlp_out_proj": "mlp_act"} if separate else {})
