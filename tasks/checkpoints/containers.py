"""Where in a checkpoint the weights are, and which of them: averaged ones before raw ones, a teacher before a student.

The rule, at each level from the outside to the inside, takes the first of these keys that has tensors in it:

1. averaged weights, as timm does: `AVERAGED`;
2. `teacher`, the averaged network of self-distillation;
3. the plain names `PLAIN`;
4. `student`;
5. `ema_state_dict`, alone: beside `state_dict` it holds the raw weights, because MMEngine swaps the two when it saves.

A level with more tensors directly in it than under any such key is the state itself. A network stored as an object
gives its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from aiqvit.tasks.checkpoints.modules import whole_module
from aiqvit.tasks.checkpoints.objects import Large

State = dict[str, torch.Tensor]
Found = tuple[State, tuple[str, ...]]  # weights, and the keys that lead to them
Known = dict[tuple[int, int], Found | None]  # by container and depth

AVERAGED = ("state_dict_ema", "model_ema", "module_ema", "net_ema", "ema_model", "params_ema", "ema")
PLAIN = ("state_dict", "model", "module", "net", "model_state_dict", "network", "model_state", "params", "weights",
         "backbone")
ORDER = (*AVERAGED, "teacher", *PLAIN, "student", "ema_state_dict")
WRAPPERS = ("module.", "_orig_mod.", "model.")  # of parallel training, of compiling, of Lightning
DEPTH = 6  # levels that are looked into


def weights_in(content: Any) -> tuple[State, str]:
    """The tensors of a checkpoint and the path of the key that they stood under, `model_ema.module`; "" for none."""
    found = _find(content, DEPTH, {})
    if found is None:
        return {}, ""
    state, path = found
    return state, ".".join(path)


def passed_over(content: Any, path: str) -> list[str]:
    """Other keys of the outermost level of `content` that hold weights too, beside the one that was taken."""
    first = path.partition(".")[0]
    if not first or not isinstance(content, dict):
        return []
    return [str(key) for key in content if key in ORDER and key != first and _find(content[key], DEPTH - 1, {})]


def large_in(content: Any, path: str) -> list[str]:
    """Names of tensors beside the weights at `path` that show far more numbers than they have, and so were left out."""
    for key in path.split(".") if path else ():
        content = content.get(key) if isinstance(content, dict) else None
    return [str(key) for key, value in content.items() if isinstance(value, Large)] if isinstance(content, dict) else []


def _find(content: Any, depth: int, known: Known) -> Found | None:
    """The weights below a container and where; a container that is in several places is looked into once a depth."""
    if not isinstance(content, dict) or depth == 0:
        return None
    if (id(content), depth) not in known:
        known[id(content), depth] = None  # one that is in itself has nothing more there
        known[id(content), depth] = _look_into(content, depth, known)
    return known[id(content), depth]


def _look_into(content: dict, depth: int, known: Known) -> Found | None:
    if state := whole_module(content):
        return state, ()
    state = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    for key in ORDER:
        found = _find(content.get(key), depth - 1, known)
        if found and len(found[0]) >= len(state):  # fewer tensors beside it are states of generators, scales, counters
            return found[0], (key, *found[1])
    if any(tensor.dim() > 0 for tensor in state.values()):
        return state, ()
    return _only(content, depth, known) or ((state, ()) if state else None)


def _only(content: dict, depth: int, known: Known) -> Found | None:
    """Weights under a key of another name, where exactly one key has any."""
    found = [(key, _find(value, depth - 1, known)) for key, value in content.items() if isinstance(value, dict)
             and key not in ("optimizer", "optimizer_state_dict", "scheduler", "scaler", "amp")]
    found = [(inner[0], (str(key), *inner[1])) for key, inner in found if inner]
    return found[0] if len(found) == 1 else None


class Unwrapped(dict):
    """A state whose keys stood behind a wrapper's prefix, except those in `beside`: counters, losses, metrics."""

    beside: frozenset[str] = frozenset()


def unwrapped(state: State) -> tuple[Unwrapped, str]:
    """The state without what wrappers put in front of most of its keys, again and again; and what was removed."""
    removed, beside = "", set()
    while prefix := next((p for p in WRAPPERS if _carried(state, p)), None):
        beside |= {key for key in state if not key.startswith(prefix)}
        state = _stripped(state, prefix)
        removed += prefix
    found = Unwrapped(state)
    found.beside = frozenset(beside & state.keys())
    return found, removed


def alone(state: State, own: Mapping[str, object]) -> tuple[State, list[str]]:
    """The state without what stood beside a wrapped network and has no place in `own`; and a sentence on it, if any."""
    left = [key for key in state if key in getattr(state, "beside", ()) and key not in own]
    if not left:
        return state, []
    return {k: v for k, v in state.items() if k not in left}, [left_out(left)]


def left_out(keys: Sequence[str]) -> str:
    """How many keys are left out, and the first three."""
    count = "1 key beside the model is" if len(keys) == 1 else f"{len(keys)} keys beside the model are"
    return f"{count} left out: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"


def _carried(state: State, prefix: str) -> bool:
    return 2 * sum(key.startswith(prefix) for key in state) > len(state)


def _stripped(state: State, prefix: str) -> State:
    """Keys with the prefix lose it; others stay, unless they would stand in the way."""
    short = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return short | {k: v for k, v in state.items() if not k.startswith(prefix) and k not in short}


def without_shadows(state: State) -> State:
    """Without the copies `ema_blocks_0_norm1_weight` that old MMCV keeps of `blocks.0.norm1.weight`.

    It swaps the two before it saves, so that the averaged weights are those under the plain name.
    """
    shadows = {f"ema_{key.replace('.', '_')}" for key in state}
    return {k: v for k, v in state.items() if k not in shadows}


def inside(state: State, own: State | set[str]) -> tuple[State, str, list[str]]:
    """The part of `state` that has the keys `own` behind one prefix, where more of them fit so than without.

    Returns the state, the prefix ("" when nothing is changed) and the keys left out. Keys of `own` that stand without
    the prefix stay. Of several prefixes that fit alike an averaged one is taken, then `teacher`, then the first.
    """
    counts: dict[str, int] = {}
    for prefix in _prefixes(state, own):
        counts[prefix] = counts.get(prefix, 0) + 1
    plain = sum(key in own for key in state)
    best = max(counts.values(), default=0)
    if best <= plain:
        return state, "", []
    prefix = min((p for p, count in counts.items() if count == best), key=_rank)
    kept = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    kept = {k: v for k, v in state.items() if k in own and k not in kept} | kept
    return kept, prefix, [k for k in state if not k.startswith(prefix) and k not in own]


def _prefixes(state: State, own: State | set[str]) -> Iterator[str]:
    """For each key the beginnings that leave a key of `own`, each ending with a dot."""
    for key in state:
        for found in re.finditer(r"\.", key):
            if key[found.end():] in own:
                yield key[: found.end()]


def _rank(prefix: str) -> int:
    parts = set(re.split(r"[._]", prefix.lower()))
    return 0 if parts & {"ema", "averaged", "avg"} else 1 if "teacher" in parts else 3 if "student" in parts else 2
