"""timm's differential attention (Ye et al., ICLR 2025): one Softmax map minus lambda times another."""

from __future__ import annotations

from timm.layers.diff_attention import DiffAttention
from torch import Tensor, nn

from aiqvit.families.attention import OpenAttention, mask_bias
from aiqvit.families.family import Family


class OpenDifference(OpenAttention):
    """Both maps weigh the values, each with its own products, as timm's fused path does: all maps stay in 0 to 1."""

    def take_difference(self, source: nn.Module) -> None:
        """Take over what the two maps are combined by; lambda is a constant once training is over."""
        self.num_heads, self.lambda_init = source.num_heads, source.lambda_init
        self.q_norm, self.k_norm, self.sub_norm = source.q_norm, source.k_norm, source.sub_norm
        self.register_buffer("second_weight", source._compute_lambda().detach().clone().to(source.sub_norm.weight))

    def differ(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, is_causal: bool) -> Tensor:
        """q, k and v, each (B, N, C), to (B, N, C). Query and key have two half heads for each head of the values."""
        B, N, C = v.shape
        H = self.num_heads
        q, k = (t.reshape(B, N, 2 * H, -1).transpose(1, 2) for t in (q, k))  # (B, 2 H, N, D)
        q, k = self.q_norm(q), self.k_norm(k)
        v = v.reshape(B, N, H, -1).transpose(1, 2).repeat_interleave(2, dim=1)  # (B, 2 H, N, 2 D)
        first, second = self.weigh(q, k, v, mask_bias(attn_mask, is_causal, q)).unflatten(1, (H, 2)).unbind(2)
        x = self.sub_norm(first - self.second_weight * second) * (1 - self.lambda_init)  # (B, H, N, 2 D)
        return x.transpose(1, 2).reshape(B, N, C)


class DiffSelfAttention(OpenDifference):
    """timm's DiffAttention."""

    def __init__(self, source: DiffAttention) -> None:
        super().__init__()
        self.take_difference(source)
        self.qkv, self.norm, self.proj = source.qkv, source.norm, source.proj
        self.add_products(source.scale, norms=(("norm", "proj"),), plain=(False, False))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x: (B, N, C) to (B, N, C)."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj(self.norm(self.differ(q, k, v, attn_mask, is_causal)))


FAMILY = Family(opens={DiffAttention: DiffSelfAttention})
