"""A Point Transformer as its weights describe it: sizes from shapes, and the key map of another implementation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import count, takewhile
from typing import Annotated, Any

import torch
from aiqvit.tasks.checkpoints.nearest import look
from aiqvit.tasks.models.point_transformer import PointSegmenter, PointTransformer
from annotated_types import Len
from pydantic import ConfigDict
from torch import Tensor, nn
from typing_extensions import TypedDict

from aiqvit.bounds import Size
from aiqvit.interfaces import UserError

State = dict[str, Tensor]
LAYERS, WIDEST = 100, 65536  # of a network, and features of a layer
Rules = Sequence[tuple[str, str | Callable[[re.Match], str]]]

SIMPLE = (  # of a public checkpoint with the simpler transition down; its 1 x 1 convolutions are our Linear layers
    (r"^MLP1\.", "embed."),
    (r"^MLP2\.", "classifier."),
    (r"^transformer_initial\.", "blocks.0."),
    (r"^transformer_blocks\.(\d+)\.", lambda found: f"blocks.{int(found[1]) + 1}."),
    (r"^down_blocks\.(\d+)\.mlp_convs\.", r"downs.\1.mlp."),
    (r"\.linear1\.", ".expand."),
    (r"\.linear2\.", ".reduce."),
    (r"\.queries\.", ".query."),
    (r"\.keys\.", ".key."),
    (r"\.values\.", ".value."),
    (r"\.mapping\.", ".gamma."),
    (r"\.positional_encoding\.", ".position."),
)
INNER = (  # of the blocks of the widely used re-implementation
    (r"\.w_([qkv])s\.", lambda found: {"q": ".query.", "k": ".key.", "v": ".value."}[found[1]]),
    (r"\.fc_delta\.", ".position."),
    (r"\.fc_gamma\.", ".gamma."),
    (r"^((?:up_)?blocks\.\d+|bottom)\.fc1\.", r"\1.expand."),
    (r"^((?:up_)?blocks\.\d+|bottom)\.fc2\.", r"\1.reduce."),
)
BACKBONE = (  # and of what is around them; convolution or norm j of a transition is our layer 3 j or 3 j + 1
    (r"^fc1\.", "embed."),
    (r"^transformer1\.", "blocks.0."),
    (r"^transformers\.(\d+)\.", lambda found: f"blocks.{int(found[1]) + 1}."),
    (r"^transition_downs\.(\d+)\.sa\.mlp_(conv|bn)s\.(\d+)\.",
     lambda found: f"downs.{found[1]}.mlp.{3 * int(found[3]) + (found[2] == 'bn')}."),
)
CLASSIFIER = ((r"^fc2\.", "classifier."),)
SEGMENTER = (  # its blocks on the way up are called like those of the backbone
    (r"^fc2\.", "bottleneck."),
    (r"^fc3\.", "classifier."),
    (r"^transformer2\.", "bottom."),
    (r"^transformers\.", "up_blocks."),
    (r"^transition_ups\.(\d+)\.fc([12])\.(\d+)\.",
     lambda found: f"ups.{found[1]}.{'coarse' if found[2] == '1' else 'fine'}.{(int(found[3]) + 1) // 2}."),
)
FOREIGN = "they look like a Point Transformer of another code base: known are the widely used re-implementation " \
          "(transformer1, transition_downs) and one with transformer_initial and down_blocks"


def own_keys(state: State) -> State:
    """The state under our names; one that has them already, or is not known, is returned as it is."""
    if "transformer_initial.linear1.weight" in state:
        return _renamed(state, lambda key: _replaced(key, SIMPLE))
    prefix = next((p for p in ("backbone.", "") if f"{p}transformer1.w_qs.weight" in state), None)
    if prefix is None:
        return state
    rest = SEGMENTER if "transformer2.w_qs.weight" in state else CLASSIFIER

    def rename(key: str) -> str:
        inside = key.startswith(prefix) if prefix else not _replaces(key, rest)
        return _replaced(_replaced(key.removeprefix(prefix), BACKBONE if inside else rest), INNER)

    return _renamed(state, rename)


def _renamed(state: State, rename: Callable[[str], str]) -> State:
    """Under other names, convolutions (out, in, 1) or (out, in, 1, 1) as (out, in)."""
    return {rename(key): value.flatten(1) if value.dim() > 2 else value for key, value in state.items()}


def _replaced(key: str, rules: Rules) -> str:
    for pattern, name in rules:
        key = re.sub(pattern, name, key)
    return key


def _replaces(key: str, rules: Rules) -> bool:
    return any(re.search(pattern, key) for pattern, _ in rules)


class Sizes(TypedDict, total=False):
    """What a Point Transformer is built with."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    channels: Size
    classes: Size
    widths: Annotated[list[Size], Len(1, 16)]
    dim: Size
    grouped: bool
    hidden: Annotated[list[Size], Len(0, 16)]
    bottleneck: Size  # of one that segments


def sizes(net: PointTransformer) -> Sizes:
    """The sizes of a network whose batch norms are not folded yet."""
    widths = [block.reduce.out_features for block in net.blocks]
    found = Sizes(channels=net.embed[0].in_features, classes=net.classifier[-1].out_features, widths=widths,
                  dim=net.blocks[0].query.in_features, grouped=bool(len(widths) > 1 and net.downs[0].grouped),
                  hidden=[layer.out_features for layer in net.classifier[:-1] if isinstance(layer, nn.Linear)])
    return found | ({"bottleneck": net.bottleneck[0].out_features} if isinstance(net, PointSegmenter) else {})


def build(state: State, source: str) -> PointTransformer:
    """A model with random weights of the sizes that `state`, read from `source`, has. Raises `UserError` for others."""

    def rows(key: str) -> int:
        return state[key].shape[0]

    def present(pattern: str) -> list[str]:  # keys of a numbered layer, 0 and on
        return list(takewhile(state.__contains__, (pattern.format(i) for i in count())))

    try:
        widths = [rows(key) for key in present("blocks.{}.reduce.weight")]
        sizes = [rows(key) for key in state if re.fullmatch(r"classifier\.\d+\.weight", key)]
        grouped = bool(len(widths) > 1 and state["downs.0.mlp.0.weight"].shape[1] == widths[0] + 3)
        options = {"channels": state["embed.0.weight"].shape[1], "classes": sizes[-1], "widths": widths,
                   "dim": rows("blocks.0.query.weight"), "grouped": grouped, "hidden": sizes[:-1]}
        kind = PointTransformer
        if "bottom.query.weight" in state:
            kind, options["bottleneck"] = PointSegmenter, rows("bottleneck.0.weight")
        _check_amount(kind, options, state, source)
        return kind(**options)
    except (KeyError, IndexError) as error:
        hint = FOREIGN if any("transformer" in key or "linear_q" in key for key in state) else \
            f"the first of {len(state)} keys is {next(iter(state), '')!r}"
        text = f"weights {source!r} are not those of a Point Transformer: no {error}; {hint}{look(state)}"
        raise UserError(text) from error


def _check_amount(kind: type[PointTransformer], options: dict[str, Any], state: State, source: str) -> None:
    """Raise `UserError` for a network of more numbers than its state has, before it takes any memory."""
    widths = [size for value in options.values() for size in (value if isinstance(value, list) else [value])]
    if len(widths) > LAYERS or not all(size <= WIDEST for size in widths):
        raise UserError(f"weights {source!r} are not those of a Point Transformer: of its {len(widths)} sizes, at most "
                        f"{LAYERS}, none is above {WIDEST}")
    with torch.device("meta"):
        needed = sum(value.numel() for value in kind(**options).state_dict().values())
    held = sum(value.numel() for value in state.values())
    if needed > 2 * held + 10**6:  # a few tensors may be missing, which `load_state` says
        raise UserError(f"weights {source!r} are not those of a Point Transformer: with the sizes of their layers it "
                        f"has {needed} numbers, but they have {held}")
