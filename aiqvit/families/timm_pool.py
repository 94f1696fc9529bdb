"""timm's attention pooling."""

from __future__ import annotations

from timm.layers.attention_pool import AttentionPoolLatent, AttentionPoolPrr
from torch import Tensor, nn

from aiqvit.families.attention import OpenAttention, mask_bias, split_heads
from aiqvit.families.family import Family, feeding, writes
from aiqvit.quant.anatomy import Anatomy

POOLS = {"token": lambda x: x[:, 0], "avg": lambda x: x.mean(1)}


class LatentPool(OpenAttention):
    """timm's AttentionPoolLatent: learned queries attend to all tokens."""

    def __init__(self, source: AttentionPoolLatent) -> None:
        super().__init__()
        self.num_heads, self.latent, self.pos_embed = source.num_heads, source.latent, source.pos_embed
        self.pool = source.pool
        self.q, self.kv, self.proj = source.q, source.kv, source.proj
        self.q_norm, self.k_norm = source.q_norm, source.k_norm
        self.add_products(source.scale, reads=("kv",))
        self.norm, self.mlp = source.norm, source.mlp

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """x: (B, N, C) to (B, C), or (B, L, C) without pooling of the L queries."""
        B = x.shape[0]  # as `len` it would be a constant for `torch.export`
        if self.pos_embed is not None:
            x = x + self.pos_embed[None].to(x.dtype)
        (q,) = split_heads(self.q(self.latent.expand(B, -1, -1)), 1, self.num_heads)  # (B, H, L, D)
        k, v = split_heads(self.kv(x), 2, self.num_heads)
        x = self.proj(self.attend(self.q_norm(q), self.k_norm(k), v, mask_bias(attn_mask, False, q)))
        if self.mlp is not None:
            x = x + self.mlp(self.norm(x))
        return POOLS.get(self.pool, lambda x: x)(x)


def latent_pool(module: LatentPool) -> Anatomy:
    """The queries come from a parameter, not from the input; behind the norm stands a feed-forward network.

    A position embedding is added to the input before a layer reads it.
    """
    roles = {"kv": "qkv"} | ({"proj": "proj"} if isinstance(module.proj, nn.Linear) else {})
    ends = ("proj", *writes(module, "mlp")) if module.mlp is not None else ()
    return Anatomy(roles=roles, reads=() if module.pos_embed is not None else ("kv",), writes=ends, residual=ends,
                   feeds=feeding(module, [("norm", "mlp")]) if module.mlp is not None else {})


class SelfPool(OpenAttention):
    """timm's AttentionPoolPrr: attention without layers, the tokens are query, key and value."""

    def __init__(self, source: AttentionPoolPrr) -> None:
        super().__init__()
        self.num_heads, self.pool = source.num_heads, source.pool
        self.pre_norm, self.post_norm = source.pre_norm, source.post_norm
        self.add_products(source.scale, reads=(), writes=())

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, C) to (B, C)."""
        (x,) = split_heads(self.pre_norm(x), 1, self.num_heads)  # (B, H, N, D)
        return POOLS[self.pool](self.post_norm(self.attend(x, x, x)))


FAMILY = Family(
    opens={AttentionPoolLatent: LatentPool, AttentionPoolPrr: SelfPool},
    describes={LatentPool: latent_pool},
)
