"""What timm's networks share: patch embeddings, feed-forward networks, the layout of a plain transformer."""

from __future__ import annotations

from timm.layers.mlp import GluMlp, Mlp, SwiGLU
from timm.layers.patch_embed import PatchEmbed
from torch import nn

from aiqvit.families.family import Family, activation, feeding, writes
from aiqvit.quant.anatomy import Anatomy

TOKENS = ("cls_token", "dist_token", "reg_token", "pos_embed")


def mlp(module: Mlp) -> Anatomy:
    """fc1, activation, fc2; with a norm in front of fc2 that one feeds it."""
    plain = isinstance(module.norm, nn.Identity)
    return Anatomy(roles={"fc1": "fc1", "fc2": "fc2"}, reads=("fc1",), writes=("fc2",),
                   feeds=feeding(module, [("norm", "fc2")]),
                   activations={"fc2": activation(module.act, "act")} if plain else {},
                   functions={"fc2": "act"} if plain else {})


def glu(module: GluMlp) -> Anatomy:
    """fc1 gives a value and a gate, whose product goes into fc2: no activation function stands in front of that."""
    activation(module.act, "act")
    return Anatomy(roles={"fc1": "fc1", "fc2": "fc2"}, reads=("fc1",), writes=("fc2",),
                   feeds=feeding(module, [("norm", "fc2")]))


def swiglu(module: SwiGLU) -> Anatomy:
    """As `glu`, with a layer each for the value and the gate."""
    activation(module.act, "act")
    return Anatomy(roles={"fc1_g": "fc1", "fc1_x": "fc1", "fc2": "fc2"}, reads=("fc1_g", "fc1_x"), writes=("fc2",),
                   feeds=feeding(module, [("norm", "fc2")]))


def patch_embed(module: PatchEmbed) -> Anatomy:
    """One convolution."""
    return Anatomy(roles={"proj": "patch_embed"}, reads=("proj",), writes=("proj",))


def plain(model: nn.Module, stacks: tuple[str, ...] = ("blocks",)) -> Anatomy:
    """A network of patch embedding, stacks of blocks, attention pooling and heads, of timm's names.

    What the last norm gives is pooled, which keeps a scale and a shift of each channel, and goes into the heads.
    """
    heads = tuple(name for name in ("head", "head_dist") if isinstance(getattr(model, name, None), nn.Linear))
    pool = ("attn_pool",) if getattr(model, "attn_pool", None) is not None else ()
    blocks = tuple(f"{stack}.{i}" for stack in stacks for i in range(len(getattr(model, stack))))
    behind = not isinstance(getattr(model, "fc_norm", nn.Identity()), nn.Identity)  # a norm behind the pooling
    feeds = feeding(model, [("norm", pool[0])]) if pool else {}
    last = "fc_norm" if behind else "norm"
    if heads and (behind or not pool) and feeding(model, [(last, heads[0])]):
        feeds[last] = heads
    return Anatomy(roles=dict.fromkeys(heads, "head"), units=("patch_embed", *blocks, *pool, *heads), feeds=feeds,
                   origins=_origins(model) if stacks == ("blocks",) else ())


def _origins(model: nn.Module) -> tuple[str, ...]:
    """The patches and what is put before them or added to them; or the norm that all of these go through."""
    if isinstance(getattr(model, "norm_pre", None), nn.LayerNorm):
        return ("norm_pre",)
    return (*writes(model, "patch_embed"),
            *(name for name in TOKENS if isinstance(getattr(model, name, None), nn.Parameter)))


FAMILY = Family(describes={Mlp: mlp, GluMlp: glu, SwiGLU: swiglu, PatchEmbed: patch_embed})
