"""Trained weights: find, read, check that they fit, and identify them."""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import nn

from aiqvit.interfaces import UserError

State = dict[str, torch.Tensor]


def read_state(path: str | Path) -> State:
    """Tensors of a safetensors file, or of a torch file with nothing but tensors and plain containers in it.

    A state nested under `model` or `state_dict` is unwrapped and a `module.` prefix removed. Raises `UserError`
    when the file is missing, cannot be read safely or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights file {str(path)!r} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(
            f"weights file {str(path)!r} cannot be read safely ({reason}): expected safetensors, or a torch file that "
            "holds only tensors"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    tensors = {}
    if isinstance(state, dict):
        tensors = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise UserError(f"weights file {str(path)!r} holds no tensors")
    return tensors


def load_state(model: nn.Module, state: State, source: str) -> None:
    """Copy `state` into the model, in the model's own precision, exactly: no key left over and none missing.

    Raises `UserError` that names the first missing, unexpected and mis-shaped keys; `source` says where they are from.
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
        raise UserError(f"weights {source!r} do not fit the model: {'; '.join(problems)}")
    model.load_state_dict(state)


def checksum(model: nn.Module) -> str:
    """SHA-256 of every parameter and buffer with its name, type and shape."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def hub_file(repository: str, filename: str = "model.safetensors") -> Path:
    """Path of a pretrained file: the local cache's copy, or downloaded when the hub answers within five seconds.

    Raises `UserError` when it is in neither.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, filename)
    if isinstance(cached, str):
        return Path(cached)
    advice = f"no pretrained weights for {repository!r} here and the hub cannot be reached: give --weights FILE"
    if constants.HF_HUB_OFFLINE or not _answers(constants.ENDPOINT):
        raise UserError(advice)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return Path(hf_hub_download(repository, filename))
    except Exception as error:
        raise UserError(f"{advice} ({type(error).__name__})") from error


def _answers(url: str, seconds: float = 5.0) -> bool:
    """Whether a server is there at all; the hub's own client would retry for most of a minute."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=seconds):
            return True
    except HTTPError:
        return True
    except (OSError, ValueError):
        return False


HEAD = re.compile(r"(head|head\.fc|head\.linear|head\.0|fc|classifier|cls_classifier)\.weight")


def classes_in(state: State) -> int | None:
    """How many classes the classifier in these weights has; None where no tensor has the name of one."""
    heads = [tensor for key, tensor in state.items() if HEAD.fullmatch(key) and tensor.dim() >= 2]
    return len(heads[0]) if heads else None
