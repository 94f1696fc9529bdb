"""What opened attention modules share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiqvit.families.family import feeding
from aiqvit.quant.anatomy import Anatomy, Heads
from aiqvit.quant.products import MatMul


class OpenAttention(nn.Module):
    """Softmax attention of several heads whose two products, `qk` and `av`, are modules.

    A subclass takes over the layers of its source in `__init__`, calls `add_products`, and ends its forward with
    `attend` and the output layer.
    """

    num_heads: int
    scale: float

    def add_products(self, scale: float, *, reads: tuple[str, ...] = ("qkv",), writes: tuple[str, ...] = ("proj",),
                     weights: str = "post_softmax", norms: tuple[tuple[str, str], ...] = (),
                     plain: tuple[bool, bool] = (True, True)) -> None:
        """Add `qk` and `av`; `reads` are the layers of the input, with the role qkv, `writes` those of the output.

        `weights` is the role of what the values are weighted by; `norms` are pairs (norm, layer that reads it);
        `plain` says whether queries and keys go into `qk` as a fused layer gives them, and what `av` gives into the
        output layer.
        """
        self.scale = scale
        self.qk = MatMul("query", "key", transposed=True)
        self.av = MatMul(weights, "value")
        roles = dict.fromkeys(reads, "qkv") | dict.fromkeys(writes, "proj")
        heads = None
        if "qkv" in reads:
            products = (("qkv", 0, 3), ("qkv", 1, 3)) if plain[0] else ()
            values, output = ((("qkv", 2, 3),), writes[0]) if plain[1] else ((), "")
            heads = Heads(self.num_heads, products, values, output, "padding" if hasattr(self, "padding") else "")
        self.anatomy = Anatomy(roles=roles, reads=reads, writes=writes, feeds=feeding(self, norms), heads=heads)

    def weigh(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """q (B, H, N, D), k and v (B, H, M, D) to (B, H, N, D); `bias` is added to the scores (B, H, N, M)."""
        scores = self.qk(q * self.scale, k)  # (B, H, N, M)
        if bias is not None:
            scores = scores + bias
        return self.av(scores.softmax(dim=-1), v)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `weigh`, with the heads side by side: (B, N, H D)."""
        return self.weigh(q, k, v, bias).transpose(1, 2).flatten(2)


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """The output (B, N, parts H D) of a fused layer as `parts` tensors (B, H, N, D)."""
    B, N, _ = x.shape
    return x.reshape(B, N, parts, heads, -1).permute(2, 0, 3, 1, 4).contiguous().unbind(0)


def with_bias(layer: nn.Linear, *parts: Tensor | None) -> nn.Linear:
    """A Linear with the weight of `layer` and the bias that stands beside it in parts; `layer` where that is None."""
    if parts[0] is None:
        return layer
    return linear(layer.weight, torch.cat(parts))


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A Linear of this weight (out, in), shared, and a copy of this bias (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = weight
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def mask_bias(mask: Tensor | None, causal: bool, like: Tensor) -> Tensor | None:
    """An attention mask as what is added to the scores: -inf where a boolean one is False or, `causal`, ahead.

    `like` (B, H, N, D) gives the number of tokens, the type and the device.
    """
    if causal:
        N = like.shape[2]
        return like.new_full((N, N), float("-inf")).triu_(1)
    if mask is not None and mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(~mask, float("-inf"))
    return mask


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores of windows (B windows, H, N, N) plus a mask (windows, N, N), the same for every image."""
    if mask is None:
        return scores
    return (scores.unflatten(0, (-1, len(mask))) + mask[None, :, None]).flatten(0, 1)
