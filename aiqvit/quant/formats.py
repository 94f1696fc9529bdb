"""Number formats as pure functions: range to parameters, values to integer codes, codes to values.

Every format maps `x` to codes 0..2^b - 1. A straight-through gradient belongs to each fake quantizer; the mask of
elements that pass their gradient is explicit, because `clamp` gives different gradients at its bounds in different
versions of torch. Shapes: parameters broadcast against `x`.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST = 1e-12  # scale of an all-zero channel
_GRID = 2.0**-20  # a scale is at least this part of the largest value, so zero-points stay exact in float32


def affine_qparams(low: Tensor, high: Tensor, bits: int, symmetric: bool = False) -> tuple[Tensor, Tensor]:
    """Scale and integer zero-point (kept as float) of uniform codes 0..2^b - 1 over [low, high].

    Symmetric ranges put the zero-point at 2^{b-1} with scale max|x| / (2^{b-1} - 1/2), which clips neither end.
    A constant channel gets a finite scale on whose grid its value lies.
    """
    largest = torch.maximum(low.abs(), high.abs())
    span = largest / (2 ** (bits - 1) - 0.5) if symmetric else (high - low) / (2**bits - 1)
    scale = torch.maximum(span, largest * _GRID).clamp(min=_SMALLEST)
    zero = torch.full_like(scale, 2 ** (bits - 1)) if symmetric else torch.round(-low / scale)
    return scale, zero


def uniform_encode(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Integer codes round(x / s) + z, clipped to 0..2^b - 1; int32, the shape of `x`."""
    return (torch.round(x * (1.0 / scale)) + zero).clamp_(0, 2**bits - 1).to(torch.int32)


def uniform_decode(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Values s (q - z)."""
    return (codes - zero) * scale


def uniform_round(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Decoded values and the mask 0 <= round(x / s) + z <= 2^b - 1; not differentiable."""
    raw = (x * (1.0 / scale)).round_().add_(zero)
    q = raw.clamp(0, 2**bits - 1)
    return q.sub(zero).mul_(scale), raw.eq_(q)


def uniform_fake(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Decoded values alone, in one buffer; not differentiable."""
    return (x * (1.0 / scale)).round_().add_(zero).clamp_(0, 2**bits - 1).sub_(zero).mul_(scale)


def log_encode(x: Tensor, scale: Tensor, steps: int, levels: int) -> Tensor:
    """Codes round(-n log2(x / s)) of a base 2^{1/n} logarithm, `steps` = n, clipped to 0..`levels` - 1, as floats.

    n = 1 is Eq. 7 of AIQViT (log2), n = 2 the log-sqrt2 of RepQ-ViT. Values above `s` get code 0, 0 the last one.
    """
    return (x * (1.0 / scale)).clamp_(min=0).log2_().mul_(-steps).round_().clamp_(0, levels - 1)


def log_decode(codes: Tensor, scale: Tensor, steps: int, zero_code: int | None = None) -> Tensor:
    """Values s 2^{-q / n}; `zero_code` and what lies beyond it read back as 0. Overwrites `codes`."""
    exponent = codes.mul_(-1.0 / steps)
    if zero_code is not None:
        exponent = torch.nn.functional.threshold_(exponent, (0.5 - zero_code) / steps, -torch.inf)
    return exponent.exp2_().mul_(scale)


def sum_to(x: Tensor, shape: torch.Size) -> Tensor:
    """Sum a gradient over the dimensions along which a parameter of `shape` was broadcast."""
    extra = x.dim() - len(shape)
    dims = [i for i in range(x.dim()) if i < extra or (shape[i - extra] == 1 and x.shape[i] != 1)]
    return x.sum(dims, keepdim=True).reshape(shape) if dims else x.reshape(shape)


def _inner(a: Tensor, b: Tensor, shape: torch.Size) -> Tensor:
    """Sum of a * b, reduced to `shape`; a plain dot product when that is a scalar."""
    if shape.numel() == 1 and a.is_contiguous() and b.is_contiguous():
        return torch.dot(a.reshape(-1), b.reshape(-1)).reshape(shape)
    return sum_to(a * b, shape)


class ScaleSTE(torch.autograd.Function):
    """Straight-through gradient of any fake quantizer y(x, s) that is homogeneous in (x, s).

    dy/dx is 1 where `mask` holds; then x dy/dx + s dy/ds = y (Euler) gives dy/ds = (y - mask x) / s, which for
    uniform codes is the LSQ gradient: q - z - x/s inside, the bound minus z outside.
    """

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale, y, mask)
        return y.view_as(y)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, y, mask = ctx.saved_tensors
        dx = grad * mask
        ds = None
        if ctx.needs_input_grad[1]:
            grad = grad.contiguous()
            ds = (_inner(grad, y, scale.shape) - _inner(dx, x, scale.shape)) / scale
        return dx, ds, None, None


class FocusSTE(torch.autograd.Function):
    """Straight-through gradient of the dynamic focusing quantizer (AIQViT Eq. 15) in x, b1 and b2.

    Inside [b1, b2] dy/dx = 1 and dy/db2 = -dy/db1 = (y - x) / (b2 - b1); above, dy/db2 = 1; below, dy/db1 = 1.
    `mask` is the inside, `low` and `high` are what lies below and above and still follows its bound.
    """

    @staticmethod
    def forward(ctx, x: Tensor, b1: Tensor, b2: Tensor, y: Tensor, mask: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(x, b1, b2, y, mask, low, high)
        return y.view_as(y)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, b1, b2, y, mask, low, high = ctx.saved_tensors
        grad = grad.contiguous()
        dx = grad * mask
        inside = (_inner(dx, y, b1.shape) - _inner(dx, x, b1.shape)) / (b2 - b1)
        above = sum_to(grad * high, b2.shape)
        below = sum_to(grad * low, b1.shape)
        return dx, below - inside, above + inside, None, None, None, None
