"""Export twins: the function of a quantized layer or product, written with the operators that ONNX is made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiqvit.deploy.onnx.forms import Form, form_of
from aiqvit.deploy.onnx.ops import tap, weight
from aiqvit.interfaces import UserError
from aiqvit.quant.layers import QuantConv2d, QuantLayer, QuantLinear, QuantMatMul, QuantProduct
from aiqvit.quant.quantizers import Signed, Uniform

INTEGER = "integer"


class Twin(nn.Module):
    """Base class. `kernels` is "integer", or says why the product is float."""

    kernels: str

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def tap(self, x: Tensor, what: str) -> Tensor:
        """`x`, named in the file."""
        return tap(x, f"{self.name}:{what}")


class TwinLinear(Twin):
    """Of a QuantLinear: x (..., in) to (..., out)."""

    def __init__(self, source: QuantLinear, name: str) -> None:
        super().__init__(name)
        self.form = form_of(source.input_quantizer)
        self.weight = Weight(source, source.weight.flatten(1), not self.form.reason)
        self.kernels = f"float: {self.form.reason}" if self.form.reason else INTEGER
        bias = torch.zeros(source.weight.shape[0]) if source.bias is None else source.bias.detach()
        offset = self.form.constant * self.form.gain * self.weight().sum(0)  # (out,)
        self.register_buffer("bias", bias + offset)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tap(x, "in")
        flat = x.dim() == 2
        y = self.product(x.unsqueeze(0) if flat else x)  # a 2-D product would become a Gemm, which stays float
        return self.tap(y.squeeze(0) if flat else y, "out")

    def product(self, x: Tensor) -> Tensor:
        """(..., N, in) to (..., N, out)."""
        w = self.weight()
        y = sum(term @ w for term in self.form.terms(x))
        return (y if self.form.gain == 1 else y * self.form.gain) + self.bias


class Weight(nn.Module):
    """The weight (in, out) of a layer as codes."""

    def __init__(self, source: QuantLayer, matrix: Tensor, integer: bool) -> None:
        super().__init__()
        q = source.weight_quantizer
        if type(q) not in (Uniform, Signed):
            raise UserError(f"{q.site.name}: {q.kind} codes of weights have no form in ONNX")
        self.bits, self.integer = q.bits, integer
        codes = q.encode(source.weight.detach()).reshape(matrix.shape)
        self.register_buffer("codes", codes.t().contiguous().to(torch.uint8))
        self.register_buffer("scale", q.scale.detach().flatten().clone())
        self.register_buffer("zero", q.zero.flatten().to(torch.int32))

    def forward(self) -> Tensor:
        return weight(self.codes, self.scale, self.zero, self.bits, 1, self.integer)


class TwinPatches(TwinLinear):
    """Of a QuantConv2d whose kernels do not overlap: (B, in, H, W) to (B, out, H', W')."""

    def __init__(self, source: QuantConv2d, name: str) -> None:
        super().__init__(source, name)
        self.size = source.kernel_size

    def forward(self, x: Tensor) -> Tensor:
        x = self.tap(x, "in")
        (B, C, H, W), (h, w) = x.shape, self.size
        x = x.reshape(B, C, H // h, h, W // w, w).permute(0, 2, 4, 1, 3, 5)  # (B, H', W', in, h, w)
        y = self.product(x.reshape(B, (H // h) * (W // w), C * h * w))  # (B, H' W', out)
        y = y.transpose(1, 2).reshape(B, -1, H // h, W // w)
        return self.tap(y, "out")


class TwinMatMul(Twin):
    """Of a QuantMatMul."""

    def __init__(self, source: QuantMatMul, name: str) -> None:
        super().__init__(name)
        self.left, self.right = form_of(source.left_quantizer), form_of(source.right_quantizer)
        self.transposed = source.transposed
        reason = self.left.reason or self.right.reason
        self.kernels = f"float: {reason}" if reason else INTEGER

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        left, right = self.tap(left, "left"), self.tap(right, "right")
        if self.transposed:
            right = right.transpose(-2, -1)
        return self.tap(multiplied(self.left, self.right, left, right), "out")


def multiplied(one: Form, other: Form, left: Tensor, right: Tensor) -> Tensor:
    """(..., N, K) and (..., K, M) to the product of their quantized values, (..., N, M)."""
    a, b = one.terms(left), other.terms(right)
    y = sum(s @ t for s in a for t in b)
    if one.constant:
        y = y + one.constant * sum(t.sum(-2, keepdim=True) for t in b)  # (..., 1, M)
    if other.constant:
        y = y + other.constant * sum(s.sum(-1, keepdim=True) for s in a)  # (..., N, 1)
    if one.constant and other.constant:
        y = y + one.constant * other.constant * left.shape[-1]
    gain = one.gain * other.gain
    return y if gain == 1 else y * gain


def replace(model: nn.Module) -> dict[str, str]:
    """Put twins into a quantized model, in place; the names of layers and products, and on what kernels they run."""
    found = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, QuantLayer | QuantProduct):
            twin = twin_of(module, name)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, twin)
            found[name] = twin.kernels
    return found


def twin_of(module: nn.Module, name: str) -> Twin:
    """The twin of a quantized layer or product."""
    if isinstance(module, QuantLinear):
        return TwinLinear(module, name)
    if isinstance(module, QuantConv2d):
        return TwinPatches(module, name)
    return TwinMatMul(module, name)
