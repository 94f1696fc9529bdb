"""Layers that quantize their operands: Linear, Conv2d and products of two activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aiqvit.quant.quantizers.base import Quantizer

ADDED = ("offset", "input_mean", "input_power")  # buffers that come with quantization


class QuantLayer(nn.Module):
    """What QuantLinear and QuantConv2d share: an input quantizer, a weight quantizer, an optional compensation.

    While a unit is reconstructed, `compensation(weight, weight_quantizer)` returns the quantized weight in place of
    `weight_quantizer(weight)`: low-rank terms or rounding variables stand there, until they are merged into `weight`.
    `offset`, of the shape of the weight, is added in full precision, where a method keeps such a branch.
    """

    half = False  # see `half_products`
    weight: nn.Parameter
    bias: nn.Parameter | None
    offset: Tensor | None  # the shape of `weight`
    input_mean: Tensor | None  # (in,), of each input when ranges were last found
    input_power: Tensor | None  # (in,), mean square

    def adopt(self, source: nn.Module, inputs: Quantizer, weights: Quantizer) -> None:
        """Share the parameters of `source` and own the two quantizers."""
        self.weight, self.bias = source.weight, source.bias
        self.input_quantizer, self.weight_quantizer = inputs, weights
        for name in ADDED:
            self.register_buffer(name, None)
        self.compensation: Callable[[Tensor, Quantizer], Tensor] | None = None

    def quantized_weight(self) -> Tensor:
        """The weight as the layer uses it, in the shape of `weight`."""
        if self.compensation is not None and self.weight_quantizer.mode != "off":
            return self.compensation(self.weight, self.weight_quantizer)
        weight = self.weight_quantizer(self.weight, self.scale_by_input_rms)
        return weight if self.offset is None or self.weight_quantizer.mode == "off" else weight + self.offset

    def scale_by_input_rms(self, weight: Tensor) -> Tensor:
        """The weight, each column times the size of its input: its squared error is then that of the output."""
        return weight if self.input_power is None else weight * self.input_power.sqrt()

    def _load_from_state_dict(self, state: dict, prefix: str, *rest: Any) -> None:
        """Take a bias and buffers that quantization has added, too."""
        for name in ("bias", *ADDED):
            new = state.get(prefix + name)
            if new is None or getattr(self, name) is not None:
                continue
            empty = torch.empty_like(new, device=self.weight.device)
            setattr(self, name, nn.Parameter(empty, requires_grad=False) if name == "bias" else empty)
        super()._load_from_state_dict(state, prefix, *rest)


class QuantLinear(QuantLayer, nn.Linear):
    """y = Q(x) Q(W)^T + bias."""

    def __init__(self, source: nn.Linear, inputs: Quantizer, weights: Quantizer) -> None:
        super().__init__(source.in_features, source.out_features, bias=False, device="meta")
        self.adopt(source, inputs, weights)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in) to (..., out)."""
        x = self.input_quantizer(x)
        if self.weight_quantizer.mode == "observe":
            rows = x.detach().flatten(0, -2)
            self.input_mean, self.input_power = rows.mean(0), rows.square().mean(0)  # (in,)
        weight = self.quantized_weight()
        if self.half:
            return with_bias(F.linear(x.bfloat16(), weight.bfloat16()).to(x.dtype), self.bias)
        return F.linear(x, weight, self.bias)


class QuantConv2d(QuantLayer, nn.Conv2d):
    """2-D convolution of quantized input and weight."""

    def __init__(self, source: nn.Conv2d, inputs: Quantizer, weights: Quantizer) -> None:
        super().__init__(source.in_channels, source.out_channels, source.kernel_size, source.stride, source.padding,
                         source.dilation, source.groups, False, source.padding_mode, device="meta")
        self.adopt(source, inputs, weights)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, in, H, W) to (B, out, H', W')."""
        quantized, weight = self.input_quantizer(x), self.quantized_weight()
        if self.half:
            y = self._conv_forward(quantized.bfloat16(), weight.bfloat16(), None).to(x.dtype)
            return with_bias(y, None if self.bias is None else self.bias[:, None, None])
        return self._conv_forward(quantized, weight, self.bias)


class QuantProduct(nn.Module):
    """Product of two quantized activations; the left one may search its range by the error of the product."""

    half = False  # see `half_products`

    def __init__(self, left: Quantizer, right: Quantizer) -> None:
        super().__init__()
        self.left_quantizer, self.right_quantizer = left, right

    def multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """The product of operands as they are."""
        raise TypeError(f"{type(self).__name__} does not implement multiply")

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """The product of the quantized operands."""
        b = self.right_quantizer(right)
        a = self.left_quantizer(left, lambda t: self.multiply(t, right[: t.shape[0]]))
        return self.multiply(a.bfloat16(), b.bfloat16()).to(a.dtype) if self.half else self.multiply(a, b)


class QuantMatMul(QuantProduct):
    """Matrix product, of multi-head attention."""

    def __init__(self, left: Quantizer, right: Quantizer, transposed: bool = False) -> None:
        super().__init__(left, right)
        self.transposed = transposed

    def multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, H, N, K) and (B, H, K, M), or (B, H, M, K) if `transposed`, to (B, H, N, M)."""
        return left @ (right.transpose(-2, -1) if self.transposed else right)


class QuantWeightedSum(QuantProduct):
    """Weighted sum over neighbours, of vector attention: see `aiqvit.quant.products`."""

    def multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """Weights (B, N, K, D) and values (B, N, K, D) to (B, N, D)."""
        return (left * right).sum(-2)


def with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """y, with the bias if there is one."""
    return y if bias is None else y + bias


@contextmanager
def half_products(unit: nn.Module, on: bool = True) -> Iterator[None]:
    """While this lasts, if `on`, the quantized layers and matrix products of `unit` multiply in bfloat16.

    Operands are rounded to bfloat16 behind their quantizers, and so is each product; biases, ranges, codes and all
    that stands between the products stay in float32, gradients of the products follow in bfloat16.
    """
    layers = [m for m in unit.modules() if isinstance(m, QuantLayer | QuantMatMul)] if on else []
    try:
        for layer in layers:
            layer.half = True
        yield
    finally:
        for layer in layers:
            layer.half = False
