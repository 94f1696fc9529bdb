"""timm's models: short names, and networks with the head and the size that weights and transform ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import timm
import torch
from aiqvit.tasks import transforms
from aiqvit.tasks.checkpoints.bounds import check_classes
from timm.data import resolve_data_config
from torch import nn

from aiqvit.interfaces import UserError

TAGS = {  # explicit tags: what a bare timm name means has changed between timm versions
    "deit_tiny": "deit_tiny_patch16_224.fb_in1k",
    "deit_small": "deit_small_patch16_224.fb_in1k",
    "deit_base": "deit_base_patch16_224.fb_in1k",
    "vit_tiny": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit_small": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_base": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "swin_tiny": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_small": "swin_small_patch4_window7_224.ms_in1k",
    "swin_base": "swin_base_patch4_window7_224.ms_in22k_ft_in1k",
}
PAPER = ("deit_tiny", "deit_small", "deit_base", "vit_small", "vit_base", "swin_small", "swin_base")


def check_timm_name(name: str) -> None:
    """Raise `UserError` for a tag that timm does not have; the model's name is one of timm's."""
    try:
        timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise UserError(f"model {name!r}: {error}") from error


class Fitted(NamedTuple):
    """A network for the weights and pictures at hand."""

    network: nn.Module
    recipe: dict[str, Any]  # how it is made again, see `aiqvit.deploy.rebuild`
    changed: dict[str, str]  # what of the transform differs from timm's
    source: str  # where that is from


def fitted(net: nn.Module, name: str, classes: int | None, weights: str | None, asked: transforms.Values) -> Fitted:
    """The network with `classes` outputs and, as `pretrained_cfg`, what transform its pictures get.

    That is what is `asked` for, then what the `weights` file says, then timm's. Raises `UserError` for a network that
    cannot be built so.
    """
    tag, usual = TAGS.get(name, name), resolve_data_config({}, model=net)
    said, where = transforms.of_weights(weights, tag) if weights else ({}, "")
    values = transforms.resolve(usual, said, asked)
    changes: dict[str, Any] = {}
    if classes and classes != net.num_classes:
        check_classes(classes, f"weights {weights!r}")
        changes["num_classes"] = classes
    if tuple(values["input_size"]) != tuple(usual["input_size"]):
        changes["img_size"] = tuple(values["input_size"][1:])
    if changes:
        net = _rebuilt(tag, name, changes)
    net.pretrained_cfg = {**net.pretrained_cfg, **values}
    source = ", ".join((["--transform"] if asked else []) + ([where] if said else []))
    recipe = {"builder": "timm", "name": tag, "arguments": _listed(changes), "inputs": _listed(values)}
    return Fitted(net, recipe, transforms.differences(values, usual), source)


def _listed(values: Mapping[str, Any]) -> dict[str, Any]:  # as JSON has them
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _rebuilt(tag: str, name: str, changes: dict[str, Any]) -> nn.Module:
    try:
        net = timm.create_model(tag, **changes)
        if "img_size" in changes:  # many tell only then that patches or windows do not fit
            with torch.inference_mode():
                net.eval()(torch.zeros(1, 3, *changes["img_size"]))
        return net
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        size = "x".join(map(str, changes.get("img_size", ()))) or "its usual size"
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"model {name!r} cannot be built for pictures of {size} and "
                        f"{changes.get('num_classes', 'its')} classes: {reason}") from error

