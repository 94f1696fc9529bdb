"""A network made again from a recipe: plain values that say who builds it. No weights and no data are read.

    {"builder": "timm", "name": "deit_tiny_patch16_224.fb_in1k", "arguments": {"num_classes": 10}, "inputs": {...}}
    {"builder": "torchvision", "name": "vit_b_16", "arguments": {}}
    {"builder": "modelnet40", ...}      the name of a task: what else it takes is the task's (`Task.rebuild`)

`recipe_of` finds the recipe of a network of timm or torchvision. It is trusted only if the network that it makes is the
same: classes, plain attributes and shapes of all modules.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Interval, Len
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import TypedDict

from aiqvit.interfaces import UserError
from aiqvit.io.escape import line
from aiqvit.io.structure import checked
from aiqvit.registry import TASKS

Recipe = Mapping[str, Any]
Name = Annotated[str, Len(1, 200)]
Size = Annotated[int, Interval(ge=0, le=65536)]
WIDEST = 16  # bytes of float32 that a byte of packed codes may stand for
SLACK = 64 * 2**20  # bytes of buffers that a file does not have, such as masks
IDLE = ("Dropout", "DropPath", "StochasticDepth", "Identity")  # what does nothing in evaluation


class Arguments(TypedDict, total=False):
    """What timm's and torchvision's builders are called with."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    num_classes: Size
    img_size: Annotated[list[Size], Len(2, 2)]
    in_chans: Size
    global_pool: Name
    class_token: bool


class Inputs(TypedDict, total=False):
    """How pictures are prepared, by the names of timm's pretrained_cfg."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    input_size: Annotated[list[Annotated[int, Interval(ge=1, le=8192)]], Len(3, 3)]
    mean: Annotated[list[float], Len(1, 4)]
    std: Annotated[list[float], Len(1, 4)]
    interpolation: Name
    crop_pct: Annotated[float, Interval(gt=0, le=10)]
    crop_mode: Name


class Named(TypedDict, total=False):
    """A recipe of timm or torchvision."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    builder: Name
    name: Name
    arguments: Arguments
    inputs: Inputs


def build(recipe: Recipe, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network of a recipe with random weights, in evaluation mode.

    Raises `UserError` where there is no recipe, nobody knows its builder, or it makes a network that takes far more
    memory than the `tensors` that `path` has for it.
    """
    if not recipe:
        raise UserError(f"{str(path)!r} holds a network that nothing builds by name: hand over a fresh instance of it, "
                        "load(path, model)")
    try:
        network = sketch(recipe)
        needed = sum(value.nbytes for value in (*network.parameters(), *network.buffers()))
        held = sum(value.nbytes * (WIDEST if value.dtype == torch.uint8 else 1) for value in tensors.values())
        if needed > 2 * held + SLACK:
            raise ValueError(f"it takes {needed} bytes, and what the file holds takes {held} at most")
        return made(recipe).eval()
    except Exception as error:  # whatever a builder makes of hostile arguments
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
        raise UserError(f"cannot build the network of {str(path)!r}: {line(reason)[:300]}") from error


class _Rows(TorchFunctionMode):
    """On the meta device: rows of numbers that constructors read, such as rates of stochastic depth, have numbers."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return func(*args, **({"device": "cpu"} if func is torch.linspace else {}) | (kwargs or {}))


def sketch(recipe: Recipe) -> nn.Module:
    """The network of a recipe without memory for its weights. Raises what `made` raises."""
    with torch.device("meta"), _Rows():
        return made(recipe)


def made(recipe: Recipe) -> nn.Module:
    """The network of a recipe. Raises `ValueError` and what builders raise."""
    builder = str(recipe.get("builder"))
    if builder in BUILDERS:
        values = checked(dict(recipe), Named)
        return BUILDERS[builder](values["name"], values.get("arguments", {}), values.get("inputs", {}))
    return TASKS.get(builder).rebuild({key: value for key, value in recipe.items() if key != "builder"})


def _timm(name: str, arguments: Arguments, inputs: Mapping[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}")
    size = {"img_size": tuple(arguments["img_size"])} if "img_size" in arguments else {}
    network = timm.create_model(name, **{**arguments, **size})
    if inputs:
        network.pretrained_cfg = {**network.pretrained_cfg, **prepared(inputs)}
    return network


def prepared(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`Inputs` as timm takes them."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in inputs.items()}


def _torchvision(name: str, arguments: Arguments, inputs: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(models):
        raise ValueError(f"torchvision has no model {name!r}")
    return models.get_model(name, weights=None, **arguments)


BUILDERS = {"timm": _timm, "torchvision": _torchvision}


def recipe_of(model: nn.Module) -> dict[str, Any]:
    """The recipe that makes this network of full precision again, up to its weights; empty where none does."""
    wanted = list(outline(model))
    for recipe in _candidates(model):
        with contextlib.suppress(Exception), torch.device("meta"), _Rows():  # whatever a builder makes of a guess
            if list(outline(made(recipe).eval())) == wanted:
                return recipe
    return {}


def _candidates(model: nn.Module) -> Iterator[dict[str, Any]]:
    config = getattr(model, "pretrained_cfg", None)
    if type(model).__module__.startswith("timm.") and isinstance(config, Mapping):
        name = ".".join(filter(None, (config.get("architecture"), config.get("tag"))))
        inputs = {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()
                  if key in Inputs.__annotations__ and value is not None}
        for arguments in _arguments(model):
            yield {"builder": "timm", "name": name, "arguments": arguments, "inputs": inputs}
    if type(model).__module__.startswith("torchvision."):
        from torchvision import models

        head = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1:]
        family = type(model).__name__.lower().replace("transformer", "").replace("vision", "vit_")  # vit_, swin
        for name in (n for n in models.list_models(models) if n.startswith(family)):
            yield {"builder": "torchvision", "name": name, "arguments": {"num_classes": head[0].out_features} if head
                   else {}}


def _arguments(model: nn.Module) -> Iterator[dict[str, Any]]:
    """What timm's builder may have been called with: nothing at first, then all that the network shows."""
    yield {}
    patch = getattr(model, "patch_embed", None)
    shown = {"num_classes": getattr(model, "num_classes", None), "global_pool": getattr(model, "global_pool", None),
             "img_size": list(getattr(patch, "img_size", None) or ()),
             "in_chans": getattr(getattr(patch, "proj", None), "in_channels", None)}
    shown = {key: value for key, value in shown.items() if isinstance(value, int | str) or value}
    yield shown
    yield {key: value for key, value in shown.items() if key != "global_pool"}


def outline(model: nn.Module) -> Iterator[tuple]:
    """Of every module its name, class, plain attributes, and names and shapes of its tensors."""
    for name, module in model.named_modules():
        cls = type(module)
        if cls.__name__.startswith(IDLE):
            continue
        plain = sorted((key, repr(value)) for key, value in vars(module).items()
                       if not key.startswith("_") and key != "training" and _is_plain(value))
        tensors = [(key, tuple(value.shape)) for group in (module._parameters, module._buffers)
                   for key, value in group.items() if value is not None]
        yield name, cls.__module__, cls.__qualname__, plain, tensors


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
