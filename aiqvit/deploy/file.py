"""The file of a quantized model: safetensors with a JSON header that says what its tensors are (docs/files.md).

Nothing of a file is believed before its checksum is that of its content, its version is known and every value has the
type and the size that the schema allows.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch
from annotated_types import Interval, Len
from pydantic import ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from aiqvit.bounds import BitWidth
from aiqvit.deploy.info import Info, plain
from aiqvit.deploy.sites import Stored
from aiqvit.deploy.structure import Kind
from aiqvit.interfaces import Coverage, UserError
from aiqvit.io.escape import line
from aiqvit.io.files import check_place, read_bytes, write_bytes
from aiqvit.io.structure import checked, parse_json

VERSION = 2  # raise it when readers of before would misread a file; a file has the first that can say what it says
PLAIN = 1  # that of a network that was not rewritten
KEY = "aiqvit"  # of the header in the metadata of safetensors
LONGEST = 16 * 2**20  # bytes of all that describes the tensors; the largest networks take 1 % of it
Text = Annotated[str, Len(0, 200)]
Name = Annotated[str, Len(1, 1000)]
Side = Annotated[int, Interval(ge=0, le=2**31)]
Plain = None | bool | int | float | str | list[Any] | dict[str, Any]


class Packed(TypedDict):
    """A weight that is stored as packed codes, under `<layer>.weight`."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    bits: BitWidth
    shape: Annotated[list[Side], Len(1, 8)]


class Header(TypedDict):
    """All that a file says beside its tensors."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    version: int
    info: dict[str, Plain]
    card: list[dict[str, Plain]]  # rows of the scheme card
    absent: list[Annotated[list[Text], Len(2, 2)]]  # operand and role that the scheme names and the model does not have
    quantizers: dict[Name, Stored]  # by site
    packed: dict[Name, Packed]  # layer -> how its weight is stored
    rewritten: NotRequired[dict[Name, Kind]]  # module -> what stands there in place of the network's own; of version 2
    checksum: Text


def write(path: Path, header: dict[str, Any], info: Info, tensors: dict[str, Tensor]) -> int:
    """Write a whole file or nothing; returns its size in bytes. Raises `UserError` when it cannot be written."""
    own = torch.contiguous_format
    tensors = {name: tensor.detach().cpu().clone(memory_format=own) for name, tensor in sorted(tensors.items())}
    version = VERSION if info.rewritten or "rewritten" in header else PLAIN
    header = {"version": version, "info": plain(info), **header}
    try:
        content = save(tensors, metadata={KEY: _json(header | {"checksum": _checksum(header, tensors)})})
    except (TypeError, ValueError) as error:  # a method's settings may be anything
        raise UserError(f"cannot write {str(path)!r}: what the model says of itself is no plain value, "
                        f"{line(str(error))}") from error
    check_place(path)
    write_bytes(path, content)
    return len(content)


def read(path: Path) -> tuple[Header, Info, dict[str, Tensor]]:
    """Header and tensors of a file. Raises `UserError` for one that is missing, foreign, newer, cut off or edited."""
    try:
        content = read_bytes(path, "weights_gib")
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    try:
        header = _header(content)
        tensors = load(content)
        if _checksum({k: v for k, v in header.items() if k != "checksum"}, tensors) != header["checksum"]:
            raise ValueError("it was changed after it was written: its checksum is another")
        return header, _info(header["info"]), tensors
    except (KeyError, SafetensorError) as error:
        raise UserError(f"cannot load {str(path)!r}: it was cut off or changed, {line(str(error))[:300]}") from error
    except ValueError as error:
        raise UserError(f"cannot load {str(path)!r}: {line(str(error))[:300]}") from error


def _header(content: bytes) -> Header:
    """The header of a file's bytes, checked against its schema. Raises `ValueError` for what is none."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise ValueError("it is no safetensors file, or was cut off")
    if length > LONGEST:
        raise ValueError(f"its header has {length} bytes: expected at most {LONGEST}")
    outside = _parsed(content[8 : 8 + length])
    metadata = outside.get("__metadata__") if isinstance(outside, dict) else None
    if not isinstance(metadata, dict) or KEY not in metadata:
        raise ValueError("it holds no quantized model: aiqvit.save writes one")
    header = _parsed(metadata[KEY])
    version = header.get("version") if isinstance(header, dict) else None
    if type(version) is int and not PLAIN <= version <= VERSION:
        raise ValueError(f"it has version {version} of the format, and this aiqvit reads versions {PLAIN} to "
                         f"{VERSION}: {'update aiqvit' if version > VERSION else 'write it again'}")
    return checked(header, Header)


def _parsed(text: Any) -> Any:
    try:
        return parse_json(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"its header was changed, {error}") from error


def _info(values: dict[str, Any]) -> Info:
    """Raises `ValueError` for other fields or types than those of `Info`."""
    shape = values.get("shape")
    own = {"rewritten": (), **values, "shape": tuple(shape) if isinstance(shape, list) else shape}
    found = checked(own, _fields(Info))
    if found["coverage"]:
        checked(found["coverage"], _fields(Coverage))
    return Info(**found)


@cache
def _fields(kind: type) -> Any:
    """The schema of a dataclass whose fields are plain values."""
    schema = TypedDict(kind.__name__, get_type_hints(kind, include_extras=True))
    schema.__pydantic_config__ = ConfigDict(extra="forbid")
    return schema


def _json(value: Any) -> str:
    """The one text of a value. Raises `TypeError` and `ValueError` for what JSON does not have, NaN for example."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _checksum(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the header as JSON and of every tensor's name, type, shape and bytes, by name."""
    digest = hashlib.sha256(_json(header).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
