"""torchvision's Swin Transformers, version 1 and 2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import swin_transformer as tv

from aiqvit.families.attention import OpenAttention, linear, masked, split_heads
from aiqvit.families.family import Family, feeding, read_by, writes
from aiqvit.families.timm_swinv2 import CosineAttention
from aiqvit.quant.anatomy import Anatomy


class ShiftedWindows(nn.Module):
    """Attention within shifted windows of a map of any size.

    The source pads the map with zeros, for which its qkv layer gives the bias. Here that layer comes first and the map
    is padded with this bias behind it: every input of the layer is then an output of the norm, which can be folded.
    """

    def take_windows(self, source: tv.ShiftedWindowAttention, bias: Tensor | None) -> None:
        """Take over the geometry and give the qkv layer this bias."""
        self.window, self.shift, self.num_heads = source.window_size, source.shift_size, source.num_heads
        self.qkv, self.proj = linear(source.qkv.weight, bias), source.proj
        padding = source.qkv.weight.new_zeros(len(source.qkv.weight)) if bias is None else bias.detach().clone()
        self.register_buffer("padding", padding)  # (3 C,)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C) to the same."""
        qkv = self.qkv(x)
        B, H, W, _ = qkv.shape
        (h, w), pads = self.window, [-size % side for size, side in zip((H, W), self.window, strict=True)]
        if any(pads):
            outside = F.pad(qkv.new_zeros(H, W, 1), (0, 0, 0, pads[1], 0, pads[0]), value=1.0)
            qkv = F.pad(qkv, (0, 0, 0, pads[1], 0, pads[0])) + outside * self.padding
        sizes = [H + pads[0], W + pads[1]]
        shift = [0 if side >= size else s for s, side, size in zip(self.shift, self.window, sizes, strict=True)]
        qkv = qkv.roll([-s for s in shift], (1, 2)).unflatten(2, (-1, w)).unflatten(1, (-1, h))
        qkv = qkv.transpose(2, 3).flatten(3, 4).flatten(0, 2)  # (B windows, N, 3 C)
        q, k, v = split_heads(qkv, 3, self.num_heads)  # (B windows, H, N, D)
        x = self.attend_windows(q, k, v, self.mask(sizes, shift, q) if any(shift) else None)
        x = x.unflatten(1, (h, w)).unflatten(0, (B, sizes[0] // h, -1)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return self.proj(x.roll(shift, (1, 2))[:, :H, :W])

    def mask(self, sizes: list[int], shift: list[int], like: Tensor) -> Tensor:
        """(windows, N, N): -100 between pixels that were no neighbours before the shift."""
        regions = like.new_zeros(sizes)
        cuts = [(slice(0, -w), slice(-w, -s), slice(-s, None)) for w, s in zip(self.window, shift, strict=True)]
        for i, rows in enumerate(cuts[0]):
            for j, columns in enumerate(cuts[1]):
                regions[rows, columns] = 3 * i + j
        h, w = self.window
        regions = regions.unflatten(1, (-1, w)).unflatten(0, (-1, h)).transpose(1, 2).flatten(2).flatten(0, 1)
        return (regions[:, None] != regions[:, :, None]).to(like.dtype) * -100.0


class OpenShifted(ShiftedWindows, OpenAttention):
    """Version 1."""

    def __init__(self, source: tv.ShiftedWindowAttention) -> None:
        super().__init__()
        self.take_windows(source, source.qkv.bias)
        self.relative_position_bias_table = source.relative_position_bias_table
        self.register_buffer("relative_position_index", source.relative_position_index, persistent=False)
        self.add_products((source.qkv.in_features // source.num_heads) ** -0.5)

    def attend_windows(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """(B windows, H, N, D) three times to (B windows, N, H D)."""
        N = q.shape[2]
        bias = self.relative_position_bias_table[self.relative_position_index].view(N, N, -1).permute(2, 0, 1)
        scores = masked(self.qk(q * self.scale, k) + bias, mask)
        return self.av(scores.softmax(dim=-1), v).transpose(1, 2).flatten(2)


class OpenShiftedV2(ShiftedWindows, CosineAttention):
    """Version 2, whose keys have no bias."""

    def __init__(self, source: tv.ShiftedWindowAttentionV2) -> None:
        super().__init__()
        bias = source.qkv.bias
        if bias is not None:
            q, k, v = bias.detach().chunk(3)
            bias = torch.cat((q, torch.zeros_like(k), v))
        self.take_cosine(source)
        self.take_windows(source, bias)
        self.add_products(1.0)

    def attend_windows(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """(B windows, H, N, D) three times to (B windows, N, H D)."""
        return self.cosine(q, k, v, mask)


def block(module: tv.SwinTransformerBlock) -> Anatomy:
    """A norm in front of attention and one in front of the feed-forward network."""
    return Anatomy(feeds=feeding(module, [("norm1", "attn"), ("norm2", "mlp")]), residual=writes(module, "attn", "mlp"))


def post_norm(module: tv.SwinTransformerBlockV2) -> Anatomy:
    """The norms stand behind attention and feed-forward network and feed no layer."""
    return Anatomy(residual=("norm1", "norm2"), unnormed=read_by(module, "attn", "mlp"))


def merging(module: tv.PatchMerging) -> Anatomy:
    """Four pixels side by side, a norm, one layer, which starts a new residual stream."""
    return Anatomy(roles={"reduction": "reduction"}, feeds=feeding(module, [("norm", "reduction")]),
                   residual=("reduction",))


def merging_v2(module: tv.PatchMergingV2) -> Anatomy:
    """Four pixels side by side, one layer, and a norm behind it, which starts a new residual stream."""
    return Anatomy(roles={"reduction": "reduction"}, reads=("reduction",), residual=("norm",),
                   unnormed=("reduction",))


def network(model: tv.SwinTransformer) -> Anatomy:
    """Patch embedding, then stages of blocks and patch mergings, then the head."""
    units = ["features.0"]
    for name, part in list(model.features.named_children())[1:]:
        inside = [f"features.{name}.{i}" for i in range(len(part))] if isinstance(part, nn.Sequential) else []
        units += inside or [f"features.{name}"]
    head = isinstance(model.head, nn.Linear)
    roles = {"features.0.0": "patch_embed"} | ({"head": "head"} if head else {})
    return Anatomy(roles=roles, units=(*units, "head") if head else tuple(units),
                   feeds=feeding(model, [("norm", "head")]) if head else {})


FAMILY = Family(
    opens={tv.ShiftedWindowAttention: OpenShifted, tv.ShiftedWindowAttentionV2: OpenShiftedV2},
    describes={tv.SwinTransformerBlock: block, tv.SwinTransformerBlockV2: post_norm, tv.PatchMerging: merging,
               tv.PatchMergingV2: merging_v2},
    networks={tv.SwinTransformer: network},
)
