"""A Point Transformer as its weights describe it: sizes from shapes, and the key map of another implementation."""

from __future__ import annotations

import re
from itertools import count, takewhile

from aiqvit.tasks.models.point_transformer import PointSegmenter, PointTransformer
from torch import Tensor

from aiqvit.interfaces import UserError

State = dict[str, Tensor]

RENAMED = (  # of a public checkpoint with the simpler transition down; its 1 x 1 convolutions are our Linear layers
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


def own_keys(state: State) -> State:
    """The state under our names; one that has them already is returned as it is."""
    if "transformer_initial.linear1.weight" not in state:
        return state
    renamed = {}
    for key, value in state.items():
        for pattern, name in RENAMED:
            key = re.sub(pattern, name, key)
        renamed[key] = value.squeeze(-1) if value.dim() == 3 else value  # (out, in, 1) to (out, in)
    return renamed


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
        if "bottom.query.weight" in state:
            return PointSegmenter(**options, bottleneck=rows("bottleneck.0.weight"))
        return PointTransformer(**options)
    except (KeyError, IndexError) as error:
        raise UserError(f"weights {source!r} are not those of a Point Transformer: no {error}") from error
