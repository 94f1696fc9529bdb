"""Trained weights: find, read, check that they fit, and identify them."""

from __future__ import annotations

import hashlib
import logging
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from aiqvit.tasks.checkpoints.bounds import check_names
from aiqvit.tasks.checkpoints.containers import large_in, passed_over, unwrapped, weights_in, without_shadows
from aiqvit.tasks.checkpoints.formats import read_file
from aiqvit.tasks.checkpoints.nearest import look
from torch import nn

from aiqvit.interfaces import NotHere, UserError

State = dict[str, torch.Tensor]


def read_checkpoint(path: str | Path) -> tuple[State, list[str]]:
    """The weights in a file, and a sentence for each choice that was made: see `aiqvit.tasks.checkpoints`.

    The content decides the format, safetensors or torch; nothing in the file is run. Raises `UserError` when it is
    missing, cannot be read or holds no tensors.
    """
    content = read_file(path)
    state, key = weights_in(content)
    check_names(state, f"weights file {str(path)!r}")
    large = large_in(content, key)
    if not state:
        what = f"only {large[0][:80]!r}, which shows more numbers than it has" if large else f"but {_first(content)}"
        raise UserError(f"weights file {str(path)!r} holds no tensors by name, {what}: save model.state_dict()")
    notes = [f"{len(large)} left out that show more numbers than they have: "
             f"{', '.join(name[:80] for name in large[:3])}"] if large else []
    if key:
        left = passed_over(content, key)
        beside = f", not {', '.join(map(repr, left))} beside it" if left else ""
        notes.append(f"weights taken from the key {key[:200]!r}{beside}")
    state, prefix = unwrapped(without_shadows(state))
    if prefix:
        notes.append(f"prefix {prefix!r} removed from the keys")
    return state, notes


def _first(content: Any) -> str:
    keys = list(islice(content, 3)) if isinstance(content, dict) else []
    return ", ".join(repr(str(key)[:80]) for key in keys) or "nothing of a name"


def read_state(path: str | Path) -> State:
    """The same without the sentences."""
    return read_checkpoint(path)[0]


def load_state(model: nn.Module, state: State, source: str) -> None:
    """Copy `state` into the model, in the model's own precision, exactly: no key left over and none missing.

    Raises `UserError` that names the first missing, unexpected and mis-shaped keys and the model that would fit, and
    for weights that are not finite or not numbers with a point; `source` says where they are from.
    """
    own = model.state_dict()
    problems = []
    for what, keys in (
        ("missing", [k for k in own if k not in state]),
        ("unexpected", [k for k in state if k not in own]),
        (
            "mis-shaped",
            [
                f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
                for k in own
                if k in state and state[k].shape != own[k].shape
            ],
        ),
    ):
        if keys:
            problems.append(f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})")
    if problems:
        raise UserError(f"weights {source!r} do not fit the model, which has {len(own)} tensors: "
                        f"{'; '.join(problems)}{look(state)}")
    for key, value in state.items():
        if own[key].is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise UserError(f"weights {source!r}: {key} is {kind} and no float: give the weights before quantization")
    model.load_state_dict(state)
    _check_finite(model, source)


def _check_finite(model: nn.Module, source: str) -> None:
    wrong = []
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not key.endswith("mask") and (bad := int((~value.isfinite()).sum())):
            wrong.append((key, bad, value.numel()))
    if wrong:
        key, bad, count = wrong[0]
        more = f", and {len(wrong) - 1} more tensors have some" if len(wrong) > 1 else ""
        raise UserError(f"weights {source!r} are not finite: {bad} of {count} values of {key} are NaN or infinite{more}"
                        ": give weights from before the training diverged")


def checksum(model: nn.Module) -> str:
    """SHA-256 of every parameter and buffer with its name, type and shape."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def hub_file(repository: str, filename: str = "model.safetensors", offline: bool = False) -> Path:
    """Path of a pretrained file: the local cache's copy, or downloaded when the hub answers within five seconds.

    The repository may end in `@` and a revision. Raises `UserError` when it is in neither, `NotHere` when it is not in
    the cache and `offline` says that nothing is to be fetched.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    repository, _, revision = repository.partition("@")
    cached = try_to_load_from_cache(repository, filename, revision=revision or None)
    if isinstance(cached, str):
        return Path(cached)
    if offline:
        raise NotHere(f"no pretrained weights for {repository!r} here: a run fetches them")
    advice = f"no pretrained weights for {repository!r} here and the hub cannot be reached: give --weights FILE"
    if constants.HF_HUB_OFFLINE or not _answers(constants.ENDPOINT):
        raise UserError(advice)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return Path(hf_hub_download(repository, filename, revision=revision or None))
    except Exception as error:
        raise UserError(f"{advice} ({type(error).__name__})") from error


def _answers(url: str, seconds: float = 5.0) -> bool:
    """Whether a server is there at all; the hub's own client would retry for most of a minute."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=seconds):  # noqa: S310 -- the hub's address is the user's
            return True
    except HTTPError:
        return True
    except (OSError, ValueError):
        return False


