"""Layers that quantize their operands: Linear, Conv2d and products of two activations."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from aiqvit.quant.quantizers import Quantizer


class QuantLayer(nn.Module):
    """What QuantLinear and QuantConv2d share: an input quantizer, a weight quantizer, an optional compensation.

    `compensation(weight, weight_quantizer)` returns the quantized weight; reconstruction puts low-rank terms or
    rounding variables there. None means `weight_quantizer(weight)`.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def adopt(self, source: nn.Module, inputs: Quantizer, weights: Quantizer) -> None:
        """Share the parameters of `source` and own the two quantizers."""
        self.weight, self.bias = source.weight, source.bias
        self.input_quantizer, self.weight_quantizer = inputs, weights
        self.compensation: Callable[[Tensor, Quantizer], Tensor] | None = None
        self.input_power: Tensor | None = None  # (in,), root mean square of each input when ranges were last observed

    def quantized_weight(self) -> Tensor:
        """The weight as the layer uses it, in the shape of `weight`."""
        if self.compensation is not None and self.weight_quantizer.mode != "off":
            return self.compensation(self.weight, self.weight_quantizer)
        return self.weight_quantizer(self.weight, self.output_error)

    def output_error(self, weight: Tensor) -> Tensor:
        """The weight, each column times the size of its input: its squared error is then that of the output."""
        return weight if self.input_power is None else weight * self.input_power


class QuantLinear(QuantLayer, nn.Linear):
    """y = Q(x) Q(W)^T + bias."""

    def __init__(self, source: nn.Linear, inputs: Quantizer, weights: Quantizer) -> None:
        super().__init__(source.in_features, source.out_features, bias=False, device="meta")
        self.adopt(source, inputs, weights)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in) to (..., out)."""
        x = self.input_quantizer(x)
        if self.weight_quantizer.mode == "observe":
            self.input_power = x.detach().flatten(0, -2).square().mean(0).sqrt()  # (in,)
        return F.linear(x, self.quantized_weight(), self.bias)


class QuantConv2d(QuantLayer, nn.Conv2d):
    """2-D convolution of quantized input and weight."""

    def __init__(self, source: nn.Conv2d, inputs: Quantizer, weights: Quantizer) -> None:
        super().__init__(source.in_channels, source.out_channels, source.kernel_size, source.stride, source.padding,
                         source.dilation, source.groups, False, source.padding_mode, device="meta")
        self.adopt(source, inputs, weights)
        inputs.features = 1

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, in, H, W) to (B, out, H', W')."""
        return self._conv_forward(self.input_quantizer(x), self.quantized_weight(), self.bias)


class QuantProduct(nn.Module):
    """Product of two quantized activations; the left one may search its range by the error of the product."""

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
        return self.multiply(a, b)


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
