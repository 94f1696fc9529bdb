"""Sites and specifications: where a number is quantized, and how. A scheme is a function from the one to the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from aiqvit.quant.observers import PERCENTILES, Observer

if TYPE_CHECKING:
    from aiqvit.quant.quantizers.base import Quantizer

Operand = Literal["weight", "activation"]
FULL, HALF = 32, 16  # bits that mean float32 and float16 instead of integer codes


@dataclass(frozen=True)
class Site:
    """One operand of one layer or product.

    Roles of weights are those of their layers: patch_embed, qkv, proj, fc1, fc2, reduction, head, coordinates, other.
    Roles of activations: image, post_layernorm, residual (the residual stream itself, where no norm stands in front of
    a layer), query, key, value, post_softmax, proj_in, post_gelu, head, coordinates (of points), other.
    """

    name: str = ""  # qualified name of the quantizer, for example blocks.0.attn.qkv.input_quantizer
    role: str = ""
    operand: Operand = "activation"
    layer: str = ""  # qualified name of the layer or product, for example blocks.0.attn.qkv
    token_axis: int = -1  # the dimension that holds the features of a token; 1 in front of a convolution


@dataclass(frozen=True)
class QuantSpec:
    """A number format with its bits, granularity and range search; makes the quantizer of a site.

    `axis` is the dimension that has parameters of its own, None for one range for the tensor (see `Quantizer`).
    `bits` 32 and 16 stand for float32 and float16, whatever the format.
    """

    format: type[Quantizer]
    bits: int
    axis: int | None = None
    observer: Observer = PERCENTILES
    options: Mapping[str, Any] = field(default_factory=dict)  # of the format, for example symmetric=True

    def build(self, site: Site) -> Quantizer:
        """The quantizer of one site, switched off."""
        from aiqvit.quant.quantizers.base import Float, Half

        if self.bits in (FULL, HALF):
            quantizer: Quantizer = Float() if self.bits == FULL else Half()
        else:
            quantizer = self.format(self.bits, self.axis, self.observer, **self.options)
        quantizer.site = site
        return quantizer

    def with_bits(self, bits: int) -> QuantSpec:
        """The same at other bits."""
        return replace(self, bits=bits)


def spec(format: type[Quantizer], bits: int, axis: int | None = None, observer: Observer = PERCENTILES,
         **options: Any) -> QuantSpec:
    """A `QuantSpec` with the options of its format as keywords: `spec(Uniform, 4, 0, MinMax(), symmetric=True)`."""
    return QuantSpec(format, bits, axis, observer, options)


Scheme = Callable[[Site], QuantSpec]


@dataclass(frozen=True)
class RoleScheme:
    """A scheme as two tables, role -> specification; `default` stands for every role that is not named.

    Coordinates of points stay in full precision unless they are named.
    """

    weights: Mapping[str, QuantSpec]
    activations: Mapping[str, QuantSpec]

    def __call__(self, site: Site) -> QuantSpec:
        """The specification of a site."""
        table = self.weights if site.operand == "weight" else self.activations
        if site.role == "coordinates" and site.operand == "activation" and site.role not in table:
            return table["default"].with_bits(FULL)
        return table.get(site.role, table["default"])

    def named(self) -> list[tuple[Operand, str]]:
        """Operands and roles that the tables name, for the scheme card to say which of them a model does not have."""
        tables: tuple[tuple[Operand, Mapping], ...] = (("weight", self.weights), ("activation", self.activations))
        return [(operand, role) for operand, table in tables for role in table if role != "default"]


def by_role(weights: Mapping[str, QuantSpec], activations: Mapping[str, QuantSpec]) -> RoleScheme:
    """A scheme from two tables, each with a `default`."""
    return RoleScheme(weights, activations)
