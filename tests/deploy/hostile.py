"""Files of quantized models with other content and a right checksum, as somebody with bad intentions writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from aiqvit.deploy import file

Change = Callable[[dict[str, Any], dict[str, Tensor]], None]


def parts(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a good file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["aiqvit"]), load(content)


def written(header: Any, tensors: dict[str, Tensor]) -> bytes:
    """A file of these, with the checksum that they have."""
    if isinstance(header, dict):
        header = {key: value for key, value in header.items() if key != "checksum"}
        header["checksum"] = file._checksum(header, tensors)
    return save(tensors, metadata={"aiqvit": json.dumps(header)})


def changed(content: bytes, change: Change) -> bytes:
    """The file after `change(header, tensors)`."""
    header, tensors = parts(content)
    change(header, tensors)
    return written(header, tensors)
