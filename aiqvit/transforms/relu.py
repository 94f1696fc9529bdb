"""GELU -> ReLU: inputs of the layers behind it then have one sign, and zero-point 0 represents them.

Z. Wu et al., "APHQ-ViT" (CVPR 2025), https://arxiv.org/abs/2504.02508, Section 3.3, and GLF-Q (2026). The function of
the model changes: its feed-forward networks are reconstructed afterwards (`aiqvit.recon.mlp`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from aiqvit.quant.anatomy import activations, described, layer_roles, under


class ReLU(nn.ReLU):
    """A ReLU where the network had a GELU."""


def gelus(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Every layer of an open model with a GELU right in front of it, with the module of that GELU, by their names."""
    for prefix, _, anatomy in described(model):
        for layer, name in anatomy.functions.items():
            if anatomy.activations.get(layer) == "gelu":
                yield under(prefix, layer), under(prefix, name)


def replace_gelu(model: nn.Module) -> list[str]:
    """Put a ReLU in the place of every GELU that `gelus` finds, in an open model; returns the names of these layers."""
    found = dict(gelus(model))
    for name in found.values():
        model.set_submodule(name, ReLU())
    for prefix, module, anatomy in described(model):
        module.anatomy = replace(anatomy, activations={
            layer: "relu" if under(prefix, layer) in found else kind for layer, kind in anatomy.activations.items()})
    return list(found)


def left_alone(model: nn.Module) -> str:
    """Why the feed-forward networks of an open model that `gelus` does not find keep their function; "" for none."""
    found, before = dict(gelus(model)), activations(model)
    rest = [layer for layer, role in layer_roles(model).items() if role == "fc2" and layer not in found]
    if not rest:
        return "" if found else "no GELU stands in front of a layer"
    why = before.get(rest[0], "a gate, a norm or another branch")
    return f"{len(rest)} feed-forward networks keep their function: {why} stands in front of {rest[0]}, no GELU alone"
