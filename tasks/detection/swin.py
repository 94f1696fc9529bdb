"""MMDetection's Swin block opened: the same function, with both attention products as modules that surgery finds.

Names of its layers are those of timm's Swin (norm1, attn.qkv, attn.proj, norm2, mlp.fc1, mlp.fc2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiqvit.quant.products import MatMul

MASKED = -100.0  # added to the scores of tokens that a shifted window brings together


class WindowAttention(nn.Module):
    """Attention in (shifted) windows of a feature map, of any size.

    MMDetection pads maps that are no multiple of the window with zeros in front of qkv. Here qkv's output of a zero,
    its bias, is padded behind it: what a padding token is then does not depend on how the layer's input is quantized or
    rescaled.
    """

    def __init__(self, source: nn.Module) -> None:
        """`source` is MMDetection's ShiftWindowMSA, whose parameters are shared."""
        super().__init__()
        inner = source.w_msa
        self.window, self.shift = source.window_size, source.shift_size
        self.num_heads, self.scale = inner.num_heads, inner.scale
        self.qkv, self.proj = inner.qkv, inner.proj
        self.relative_position_bias_table = inner.relative_position_bias_table
        self.register_buffer("relative_position_index", inner.relative_position_index, persistent=False)
        bias = torch.zeros(self.qkv.out_features) if self.qkv.bias is None else self.qkv.bias.detach().clone()
        self.register_buffer("padding", bias, persistent=False)  # (3 C,)
        self.qk = MatMul("query", "key", transposed=True)
        self.av = MatMul("post_softmax", "value")

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, H W, C) of a map of `size` (H, W), to the same shape."""
        B, (H, W), N = x.shape[0], size, self.window**2
        maps = self._padded(self.qkv(x).view(B, H, W, -1))  # (B, H', W', 3 C)
        if self.shift:
            maps = maps.roll((-self.shift, -self.shift), (1, 2))
        tall, wide = maps.shape[1:3]
        qkv = self._windows(maps).view(-1, N, 3, self.num_heads, x.shape[-1] // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind(0)  # (B windows, heads, N, D)
        scores = self.qk(q * self.scale, k) + self._bias()
        if self.shift:
            mask = self._mask(tall, wide, x.device)  # (windows, N, N)
            scores = (scores.unflatten(0, (B, -1)) + mask[None, :, None]).flatten(0, 1)
        out = self.av(scores.softmax(-1), v).transpose(1, 2).reshape(-1, self.window, self.window, x.shape[-1])
        out = out.view(B, tall // self.window, wide // self.window, self.window, self.window, -1)
        out = out.transpose(2, 3).reshape(B, tall, wide, -1)
        if self.shift:
            out = out.roll((self.shift, self.shift), (1, 2))
        return self.proj(out[:, :H, :W].reshape(B, H * W, -1))

    def _padded(self, maps: Tensor) -> Tensor:  # (B, H, W, 3 C), to multiples of the window
        B, H, W, _ = maps.shape
        down, right = -H % self.window, -W % self.window
        if not (down or right):
            return maps
        padded = self.padding.expand(B, H + down, W + right, -1).clone()
        padded[:, :H, :W] = maps
        return padded

    def _windows(self, maps: Tensor) -> Tensor:  # (B, H, W, C) to (B windows, N, C)
        parts = maps.unflatten(2, (-1, self.window)).unflatten(1, (-1, self.window))
        return parts.transpose(2, 3).reshape(-1, self.window**2, maps.shape[-1])

    def _bias(self) -> Tensor:  # (heads, N, N)
        table = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        return table.view(self.window**2, self.window**2, -1).permute(2, 0, 1)

    def _mask(self, tall: int, wide: int, device: torch.device) -> Tensor:
        """0 where two tokens of a window lie in the same region of the shifted map: (windows, N, N)."""
        def regions(length: int) -> Tensor:
            place = torch.arange(length, device=device)
            return (place >= length - self.window).long() + (place >= length - self.shift)

        ids = regions(tall)[:, None] * 3 + regions(wide)  # (H', W')
        ids = self._windows(ids[None, :, :, None]).squeeze(-1)  # (windows, N)
        return (ids[:, None] != ids[:, :, None]) * MASKED


class Mlp(nn.Module):
    """The two layers of a block's feed-forward network."""

    def __init__(self, source: nn.Module) -> None:
        """`source` is MMCV's FFN, whose layers are shared."""
        super().__init__()
        (self.fc1, self.act, _), self.fc2, _ = source.layers

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., C) to the same shape."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """A Swin block in evaluation: attention and feed-forward network, each behind a LayerNorm, with residuals."""

    def __init__(self, source: nn.Module) -> None:
        """`source` is MMDetection's SwinBlock."""
        super().__init__()
        self.norm1, self.norm2 = source.norm1, source.norm2
        self.attn, self.mlp = WindowAttention(source.attn), Mlp(source.ffn)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: (B, H W, C) of a map of `size` (H, W), to the same shape."""
        x = x + self.attn(self.norm1(x), size)
        return x + self.mlp(self.norm2(x))


def open_blocks(backbone: nn.Module) -> None:
    """Replace all blocks of MMDetection's SwinTransformer in place."""
    for stage in backbone.stages:
        for i, block in enumerate(stage.blocks):
            stage.blocks[i] = Block(block)
