"""Any state of a vision transformer made to fit a timm model: names, prefixes, resolution; and what was done, in words.

What is interpolated is the resolution alone, by timm's own functions: position embeddings, with the tokens before them
as they are, and relative position bias tables. A patch embedding of another patch size is another model.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping

from aiqvit.tasks.checkpoints import transformers_names
from aiqvit.tasks.checkpoints.containers import alone, inside, left_out
from torch import Tensor, nn

State = dict[str, Tensor]
BIAS = "relative_position_bias_table"
PATCH = "patch_embed.proj.weight"


def for_timm(state: State, net: nn.Module) -> tuple[State, list[str]]:
    """The state under the keys of `net` as far as that can be done, and a sentence for each thing that was done.

    What still does not fit is left as it is, for `load_state` to name.
    """
    own = net.state_dict()
    if _fits(state, own):
        return state, []
    state, notes = alone(state, own)
    if transformers_names.is_transformers(state):
        state = transformers_names.to_timm(state)
        notes.append("names of the transformers library converted to timm's")
    converted = _converted(state, net)
    if not _fits(converted, own):
        inner, prefix, left = inside(state, set(own))
        if prefix:
            state, converted = inner, _converted(inner, net)
            notes.append(f"keys taken from behind {prefix!r}")
            notes += [left_out(left)] if left else []
    return converted, notes + resized(state, converted, net)


def _fits(state: State, own: Mapping[str, Tensor]) -> bool:
    return state.keys() == own.keys() and all(state[key].shape == own[key].shape for key in own)


def _converted(state: State, net: nn.Module) -> State:
    """What timm's converter of this network makes of a state of its authors or of another resolution."""
    own = net.state_dict()
    if PATCH in own and PATCH in state and state[PATCH].dim() == 4 and state[PATCH].shape != own[PATCH].shape:
        return state  # another width or patch size: timm would stretch the patches, which is another model
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the interpolation is programmed
            return dict(convert(state, net)) if convert else state
    except (KeyError, AttributeError, RuntimeError, ValueError, IndexError, TypeError, AssertionError):
        return state  # so foreign that the converter gives up: load_state names the keys


def resized(before: State, after: State, net: nn.Module) -> list[str]:
    """Sentences on what has another resolution behind the conversion."""
    notes = []
    changed = [key for key, value in after.items() if key in before and before[key].shape != value.shape]
    if "pos_embed" in changed:
        grid = tuple(getattr(getattr(net, "patch_embed", None), "grid_size", ()))
        extra = after["pos_embed"].shape[1] - grid[0] * grid[1] if grid else 0
        side = round(max(before["pos_embed"].shape[1] - extra, 0) ** 0.5)
        notes.append(f"position embedding interpolated from {side} x {side} to {' x '.join(map(str, grid))} patches")
    tables = [key for key in changed if key.endswith(BIAS)]
    if tables:
        old, new = (round(state[tables[0]].shape[0] ** 0.5) for state in (before, after))
        notes.append(f"{len(tables)} relative position bias tables interpolated from windows of {(old + 1) // 2} to "
                     f"{(new + 1) // 2}")
    return notes
