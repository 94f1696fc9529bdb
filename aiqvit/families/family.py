"""What a family is, how it is found for a module, and what families share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from operator import attrgetter

from torch import nn

from aiqvit.families import FAMILIES
from aiqvit.interfaces import UserError
from aiqvit.plugins import imported, points, say
from aiqvit.quant.anatomy import Anatomy, anatomy_of, under

GELUS = {"gelu": "gelu", "gelutanh": "gelu", "quickgelu": "gelu", "quickgelumodule": "gelu"}
ELEMENTWISE = ("torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me",
               "torch.nn.modules.linear", "aiqvit.transforms.relu")  # the last but one has Identity
LAYER_NORMS = ("torch.nn.modules.normalization.LayerNorm", "timm.layers.norm.LayerNorm",
               "timm.layers.norm.LayerNormFp32", "aiqvit.transforms.rotate.RMSNorm")


@dataclass(frozen=True)
class Family:
    """Three tables by class; a class stands for its subclasses too, unless these have a forward of their own.

    opens: an attention module -> the same function, with its products as modules (`aiqvit.quant.products`). Also any
    other module that multiplies outside of Linear and Conv2d layers. Names of layers should stay.
    describes: a block or a layer -> its `Anatomy`; what is inside it has been described before.
    networks: a whole network -> its `Anatomy` with `units`. Subclasses count whatever their forward.
    """

    opens: Mapping[type, Callable[[nn.Module], nn.Module]] = field(default_factory=dict)
    describes: Mapping[type, Callable[[nn.Module], Anatomy]] = field(default_factory=dict)
    networks: Mapping[type, Callable[[nn.Module], Anatomy]] = field(default_factory=dict)

    def opener(self, cls: type, own: type) -> Callable | None:
        """What opens modules of class `own`, found under its ancestor `cls`."""
        return self.opens.get(cls) if own.forward is cls.forward else None

    def describer(self, cls: type, own: type) -> Callable | None:
        """What describes modules of class `own`, found under its ancestor `cls`."""
        known = self.describes.get(cls) if own.forward is cls.forward else None
        return known or self.networks.get(cls)


def find(cls: type, what: str) -> Callable[[nn.Module], object] | None:
    """The `opener` or `describer` (that is `what`) of a class of modules, or None where no family has one."""
    for ancestor in cls.__mro__:
        family = _family(ancestor.__module__)
        if family is not None and (found := getattr(family, what)(ancestor, cls)) is not None:
            return found
    return None


@cache
def _table() -> dict[str, str]:
    table = dict(FAMILIES)
    for name, target, owner in points("aiqvit.families"):
        if table.setdefault(name, target) != target:
            say(f"the family {target} of {owner} is left out: {name!r} has {table[name]}")
    return table


@cache
def _family(module: str) -> Family | None:
    if (target := _table().get(module)) is None:
        return None
    if module in FAMILIES:
        home, _, attribute = target.partition(":")
        return getattr(import_module(home), attribute)
    try:
        found = imported(target)
        wrong = "" if isinstance(found, Family) else f"{target!r} is no Family"
    except UserError as error:
        wrong = str(error)
    if wrong:
        say(f"the family of {module!r} is left out: {wrong}")
    return None if wrong else found


def activation(module: nn.Module, name: str = "") -> str:
    """The name of an elementwise activation function: "gelu" of all its forms, else that of its class, as "silu".

    Raises `Unsupported` for a module that is not known to be one.
    """
    cls = type(module)
    if cls.__module__ not in ELEMENTWISE and not cls.__module__.startswith("mmcv.cnn.bricks"):
        raise Unsupported("activation function", name, module)
    return GELUS.get(cls.__name__.lower(), cls.__name__.lower())


def foldable(norm: nn.Module) -> bool:
    """Whether a scale and a shift of each channel can be folded into a norm: a LayerNorm with weight and bias, or ours.

    A subclass that computes something of its own is none.
    """
    computes = next(cls for cls in type(norm).__mro__ if "forward" in vars(cls))
    return (f"{computes.__module__}.{computes.__name__}" in LAYER_NORMS
            and norm.weight is not None and norm.bias is not None)


def feeding(block: nn.Module, pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """`feeds` of a block in which each norm's output goes into one module and nowhere else: pairs (norm, module).

    The module's own `reads` say which layers that are; a Linear is its own. A norm that nothing can be folded into, an
    RMSNorm for example, is left out, and what it feeds is then an ordinary activation. Raises `Unsupported` for a norm
    that is neither.
    """
    found = {}
    for norm_name, name in pairs:
        norm = block.get_submodule(norm_name)
        if not foldable(norm):
            if not isinstance(norm, nn.LayerNorm | nn.Identity) and "norm" not in type(norm).__name__.lower():
                raise Unsupported("norm", norm_name, norm)
            continue
        if layers := read_by(block, name):
            found[norm_name] = layers
    return found


def reads(module: nn.Module) -> tuple[str, ...]:
    """Layers that get a module's input as it is, by names relative to it; "" is the module itself."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        return ("",)
    anatomy = anatomy_of(module)
    return anatomy.reads if anatomy else ()


def read_by(block: nn.Module, *names: str) -> tuple[str, ...]:
    """Layers that get the input of these submodules as it is, by names relative to the block."""
    return tuple(under(name, layer) for name in names for layer in reads(block.get_submodule(name)))


def writes(block: nn.Module, *names: str) -> tuple[str, ...]:
    """Layers of these submodules whose outputs leave them, by names relative to the block."""
    found = []
    for name in names:
        anatomy = anatomy_of(block.get_submodule(name))
        found += [under(name, layer) for layer in (anatomy.writes if anatomy else ())]
    return tuple(found)


def scaled(block: nn.Module, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """`scales` of a block: pairs (module, LayerScale behind it), see `scales`."""
    found = {}
    for module, scale in pairs:
        found |= scales(block, scale, writes(block, module))
    return found


def scales(block: nn.Module, scale: str, layers: Iterable[str]) -> dict[str, str]:
    """These layers -> the parameter that scales them: `scale` names it or a LayerScale; None or an Identity is none."""
    place = attrgetter(scale)(block)
    if place is None or isinstance(place, nn.Identity):
        return {}
    return dict.fromkeys(layers, scale if isinstance(place, nn.Parameter) else f"{scale}.gamma")


class Unsupported(UserError):
    """A module that no family knows."""

    def __init__(self, what: str, name: str, module: nn.Module) -> None:
        cls = type(module)
        super().__init__(f"{what} {name or cls.__name__} ({cls.__module__}.{cls.__qualname__}) is not supported: see "
                         "docs/add-a-family.md for how to add it")
        self.what, self.name, self.module = what, name, module

    def within(self, model: nn.Module) -> Unsupported:
        """The same with the module's name in a whole model."""
        names = (name for name, module in model.named_modules() if module is self.module)
        return Unsupported(self.what, next(names, self.name), self.module)


def unknown_network(model: nn.Module, name: str) -> UserError:
    """The error for a network of which no family knows the units."""
    cls = type(model)
    return UserError(f"no family knows the network {name} ({cls.__module__}.{cls.__qualname__}): see "
                     "docs/add-a-family.md for how to add it")
