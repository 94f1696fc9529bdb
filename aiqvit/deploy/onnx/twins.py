"""Export twins: the function of a quantized layer or product, written with what ONNX has."""

from __future__ import annotations

from torch import Tensor, nn

from aiqvit.deploy.onnx.forms import Form, form_of, total
from aiqvit.deploy.onnx.ops import tap
from aiqvit.deploy.onnx.twin_weights import weight_of
from aiqvit.interfaces import UserError
from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantConv2d, QuantLayer, QuantLinear, QuantMatMul, QuantProduct

INTEGER = "integer"


class Twin(nn.Module):
    """Base class. `kernels` is "integer", or says why the product is float."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__()
        self.name, self.kernels = name, f"float: {reason}" if reason else INTEGER

    def tap(self, x: Tensor, what: str) -> Tensor:
        """`x`, named in the file."""
        return tap(x, f"{self.name}:{what}")


class TwinLinear(Twin):
    """Of a QuantLinear: x (..., in) to (..., out)."""

    def __init__(self, source: QuantLayer, name: str) -> None:
        form, weight = form_of(source.input_quantizer), weight_of(source, name)
        super().__init__(name, form.reason or weight.reason)
        self.form, self.weight = form, weight.matrix(integer=self.kernels == INTEGER)
        constant = form.constant * form.gain * self.weight().sum(0)  # (out,)
        self.register_buffer("bias", constant if source.bias is None else source.bias.detach() + constant)

    def forward(self, x: Tensor) -> Tensor:
        """A 2-D product would become a Gemm, which stays float: it is made 3-D."""
        x = self.tap(x, "in")
        y = self.product(x.unsqueeze(0)).squeeze(0) if x.dim() == 2 else self.product(x)
        return self.tap(y, "out")

    def product(self, x: Tensor) -> Tensor:
        """(..., N, in) to (..., N, out)."""
        weight = self.weight()
        y = total(term @ weight for term in self.form.terms(x))
        return (y if self.form.gain == 1 else y * self.form.gain) + self.bias


class TwinPatches(TwinLinear):
    """Of a QuantConv2d whose kernels stand side by side, as a product: (B, in, H, W) to (B, out, H', W')."""

    def __init__(self, source: QuantConv2d, name: str) -> None:
        super().__init__(source, name)
        self.size = source.kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Columns and rows that fill no kernel are left out."""
        x = self.tap(x, "in")
        (H, W), (h, w) = x.shape[2:], self.size
        rows, columns = H // h, W // w
        x = x[:, :, : rows * h, : columns * w].unflatten(3, (columns, w)).unflatten(2, (rows, h))
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (B, H' W', in h w)
        y = self.product(x).transpose(1, 2).unflatten(2, (rows, columns))
        return self.tap(y, "out")


class TwinConv(Twin):
    """Of another QuantConv2d, in float: onnxruntime's ConvInteger takes 3 to 27 times as long as its Conv."""

    def __init__(self, source: QuantConv2d, name: str) -> None:
        form, weight = form_of(source.input_quantizer), weight_of(source, name)
        why = "a convolution whose kernels overlap" if source.groups == 1 else "a convolution in groups"
        super().__init__(name, form.reason or weight.reason or why)
        self.form, self.weight = form, weight.kernel()
        self.register_buffer("bias", None if source.bias is None else source.bias.detach())
        self.convolve = source._conv_forward

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, H', W')."""
        x = self.form.decoded(self.tap(x, "in"))
        return self.tap(self.convolve(x, self.weight(), self.bias), "out")


class TwinProduct(Twin):
    """Of two activations: the function `multiply` of their quantized values."""

    def __init__(self, source: QuantProduct, name: str) -> None:
        left, right = form_of(source.left_quantizer), form_of(source.right_quantizer)
        matrix = isinstance(source, QuantMatMul)
        super().__init__(name, left.reason or right.reason or ("" if matrix else "a sum element by element"))
        self.left, self.right, self.transposed = left, right, matrix and source.transposed
        self.multiply = product if matrix else weighted_sum

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """See `QuantMatMul` and `QuantWeightedSum`."""
        left, right = self.tap(left, "left"), self.tap(right, "right")
        right = right.transpose(-2, -1) if self.transposed else right
        return self.tap(self.multiply(self.left, self.right, left, right), "out")


def product(first: Form, second: Form, left: Tensor, right: Tensor) -> Tensor:
    """(..., N, K) and (..., K, M) to (..., N, M); constants go through the sums of the other operand."""
    a, b = first.terms(left), second.terms(right)
    y = total(s @ t for s in a for t in b)
    if first.constant:
        y = y + first.constant * total(b).sum(-2, keepdim=True)  # (..., 1, M)
    if second.constant:
        y = y + second.constant * total(a).sum(-1, keepdim=True)  # (..., N, 1)
    if first.constant and second.constant:
        y = y + first.constant * second.constant * left.shape[-1]
    gain = first.gain * second.gain
    return y if gain == 1 else y * gain


def weighted_sum(first: Form, second: Form, left: Tensor, right: Tensor) -> Tensor:
    """(..., K, D) twice to (..., D)."""
    return (first.decoded(left) * second.decoded(right)).sum(-2)


class TwinUnknown(Twin):
    """Of what has no ranges, because no sample reached it; raises `UserError` when it is called."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "no range")

    def forward(self, *_: Tensor) -> Tensor:
        """Nobody knows."""
        raise UserError(f"{self.name}: one of its quantizers is not on and has no range yet: calibrate the model")


def twin_of(module: QuantLayer | QuantProduct, name: str) -> Twin:
    """The twin of a quantized layer or product. Raises `UserError` for what has no form in ONNX, by its name."""
    if any(quantizer.mode != "on" for _, quantizer in sites(module)):
        return TwinUnknown(name)
    if isinstance(module, QuantLinear):
        return TwinLinear(module, name)
    if isinstance(module, QuantConv2d):
        alone = module.groups == 1 and module.kernel_size == module.stride and module.dilation == (1, 1)
        return (TwinPatches if alone and module.padding in ((0, 0), "valid") else TwinConv)(module, name)
    return TwinProduct(module, name)


def replace(model: nn.Module) -> dict[str, str]:
    """Put twins into a quantized model, in place: layers and products by name, and on which kernels they run.

    Raises `UserError` for a model that is not quantized.
    """
    found = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, QuantLayer | QuantProduct):
            parent, _, child = name.rpartition(".")
            twin = twin_of(module, name)
            setattr(model.get_submodule(parent), child, twin)
            found[name] = twin.kernels
    if not found:
        raise UserError("the model is not quantized: there is nothing to export on integer kernels")
    return found
