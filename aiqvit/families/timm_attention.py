"""timm's attention layers: with fused or separate projections, norms, a gate, rotary position embedding."""

from __future__ import annotations

from timm.layers.attention import Attention, AttentionRope
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from torch import Tensor, cat, nn

from aiqvit.families.attention import OpenAttention, mask_bias, split_heads, with_bias
from aiqvit.families.family import Family


class SelfAttention(OpenAttention):
    """timm's Attention: fused qkv, with norms of query, key and output and a gate where the source has them."""

    def __init__(self, source: Attention) -> None:
        super().__init__()
        self.num_heads = source.num_heads
        self.qkv, self.proj = source.qkv, source.proj
        self.q_norm, self.k_norm, self.norm = source.q_norm, source.k_norm, source.norm
        self.gate = source.gate
        gated = source.gate is not None
        self.add_products(source.scale, reads=("qkv", "gate") if gated else ("qkv",),
                          norms=() if gated else (("norm", "proj"),),
                          plain=(identity(self.q_norm, self.k_norm), identity(self.norm) and not gated))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x: (B, N, C) to (B, N, C)."""
        q, k, v = split_heads(self.qkv(x), 3, self.num_heads)  # (B, H, N, D)
        out = self.norm(self.attend(self.q_norm(q), self.k_norm(k), v, mask_bias(attn_mask, is_causal, q)))
        return self.proj(out if self.gate is None else out * self.gate(x).sigmoid())


def identity(*modules: nn.Module) -> bool:
    """Whether all of these do nothing."""
    return all(isinstance(module, nn.Identity) for module in modules)


class RopeAttention(OpenAttention):
    """timm's AttentionRope and EvaAttention: queries and keys are rotated by position, heads may share keys."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.num_heads, self.groups = source.num_heads, getattr(source, "num_kv_groups", 1)
        self.prefix, self.half = source.num_prefix_tokens, source.rotate_half
        if source.qkv is not None:
            bias = (getattr(source, f"{part}_bias", None) for part in "qkv")  # of EvaAttention, beside the layer
            self.qkv, reads = with_bias(source.qkv, *bias), ("qkv",)
        else:
            self.qkv, reads = None, ("q_proj", "k_proj", "v_proj")
            self.q_proj, self.k_proj, self.v_proj = source.q_proj, source.k_proj, source.v_proj
        self.q_norm, self.k_norm, self.norm = source.q_norm, source.k_norm, source.norm
        self.gate, self.proj = source.gate, source.proj
        gated = source.gate is not None
        self.add_products(source.scale, reads=(*reads, "gate") if gated else reads,
                          norms=() if gated else (("norm", "proj"),),
                          plain=(False, identity(self.norm) and not gated))

    def forward(self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        """x: (B, N, C) to (B, N, C). `rope`: sines and cosines of the N tokens behind the prefix, ([H,] N, 2 D)."""
        if self.qkv is not None:
            q, k, v = split_heads(self.qkv(x), 3, self.num_heads)  # (B, H, N, D)
        else:
            kept = self.num_heads // self.groups
            (q,), (k,), (v,) = (split_heads(layer(x), 1, heads) for layer, heads in
                                ((self.q_proj, self.num_heads), (self.k_proj, kept), (self.v_proj, kept)))
        q, k = self.rotated(self.q_norm(q), rope).type_as(v), self.rotated(self.k_norm(k), rope).type_as(v)
        if self.groups > 1:
            k, v = k.repeat_interleave(self.groups, dim=1), v.repeat_interleave(self.groups, dim=1)
        out = self.norm(self.attend(q, k, v, mask_bias(attn_mask, is_causal, q)))
        return self.proj(out if self.gate is None else out * self.gate(x).sigmoid())

    def rotated(self, x: Tensor, rope: Tensor | None) -> Tensor:
        """x (B, H, N, D), its tokens behind the prefix rotated."""
        if rope is None:
            return x
        return cat((x[:, :, : self.prefix], apply_rot_embed_cat(x[:, :, self.prefix :], rope, half=self.half)), dim=2)


FAMILY = Family(opens={Attention: SelfAttention, AttentionRope: RopeAttention})
