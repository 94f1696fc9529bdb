"""What is known of the layers below a module: their roles, and how data flows between them.

A family (`aiqvit.families`) writes an `Anatomy` for each kind of module that it knows; opening a model attaches it to
the modules themselves, so that any part of the model, a unit for example, can be asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn

Part = tuple[str, int, int]  # (layer, i, n): the i-th of n equal parts of a layer's rows


@dataclass(frozen=True)
class Heads:
    """Parts of layers whose channels may be rotated within each head, because what stands behind undoes it."""

    count: int
    products: tuple[Part, ...] = ()  # queries and keys, which meet in a product: the same rotation for all
    values: tuple[Part, ...] = ()
    output: str = ""  # the layer whose columns take the values
    padding: str = ""  # a buffer that stands for an output of the layer where there is no input


@dataclass(frozen=True)
class Anatomy:
    """All names are those of submodules, relative to the module described."""

    roles: Mapping[str, str] = field(default_factory=dict)  # layer -> role (see `aiqvit.quant.site.Site`)
    reads: tuple[str, ...] = ()  # the layers that get the module's input as it is
    writes: tuple[str, ...] = ()  # the layers whose outputs, summed, are the module's output
    feeds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # norm -> all layers that read its output
    residual: tuple[str, ...] = ()  # layers whose output is added to the residual stream
    unnormed: tuple[str, ...] = ()  # layers that read the residual stream itself, with no norm in front
    scales: Mapping[str, str] = field(default_factory=dict)  # such a layer -> the parameter of the LayerScale behind it
    activations: Mapping[str, str] = field(default_factory=dict)  # layer -> the function in front of it, such as "gelu"
    functions: Mapping[str, str] = field(default_factory=dict)  # such a layer -> the module that is this function
    origins: tuple[str, ...] = ()  # of a network: layers, parameters or a norm that the residual stream begins with
    heads: Heads | None = None  # of attention
    units: tuple[str, ...] = ()  # of a network: modules to reconstruct one by one, in forward order
    full_precision: Mapping[str, str] = field(default_factory=dict)  # modules that stay so by design -> why


def anatomy_of(module: nn.Module) -> Anatomy | None:
    """What is attached to a module, or None."""
    return getattr(module, "anatomy", None)


def described(model: nn.Module) -> Iterator[tuple[str, nn.Module, Anatomy]]:
    """Every module below `model`, itself included, that an anatomy is attached to, with its name and that."""
    for name, module in model.named_modules():
        if (anatomy := anatomy_of(module)) is not None:
            yield name, module, anatomy


def under(prefix: str, name: str) -> str:
    """The qualified name of `name` below `prefix`, either of which may be empty."""
    return f"{prefix}.{name}" if prefix and name else prefix or name


def layer_roles(model: nn.Module) -> dict[str, str]:
    """Qualified name -> role, of every layer that has one; what stands further up wins."""
    found: dict[str, str] = {}
    for prefix, _, anatomy in described(model):
        for name, role in anatomy.roles.items():
            found.setdefault(under(prefix, name), role)
    return found


def activations(model: nn.Module) -> dict[str, str]:
    """Qualified name of a layer -> the activation function in front of it."""
    return {under(prefix, name): kind for prefix, _, a in described(model) for name, kind in a.activations.items()}


def unnormed(model: nn.Module) -> set[str]:
    """Qualified names of the layers that read the residual stream itself."""
    return {under(prefix, name) for prefix, _, anatomy in described(model) for name in anatomy.unnormed}


def norm_readers(model: nn.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every norm whose output goes to layers and nowhere else, with the names of all of these layers."""
    for prefix, _, anatomy in described(model):
        for norm, layers in anatomy.feeds.items():
            yield under(prefix, norm), tuple(under(prefix, layer) for layer in layers)


def full_precision(model: nn.Module) -> dict[str, str]:
    """Qualified name of a module that stays in full precision by design -> why."""
    return {under(prefix, name): why for prefix, _, a in described(model) for name, why in a.full_precision.items()}


def units_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules to reconstruct one by one, in forward order; of a network that holds another, the outer's.

    Of a network that no family knows the blocks that one knows, as they stand in it. Empty where there are none.
    """
    found: list[str] = []
    inside: list[str] = []  # networks whose units are listed
    for prefix, _, anatomy in described(model):
        if anatomy.units and not any(prefix.startswith(f"{outer}.") or not outer for outer in inside):
            inside.append(prefix)
            found += [under(prefix, unit) for unit in anatomy.units]
    return tuple(found or _blocks(model))


def _blocks(model: nn.Module) -> list[str]:
    """Modules that write into a residual stream and are in no other such module."""
    found: list[str] = []
    for name, _, anatomy in described(model):
        if name and anatomy.residual and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found
