"""What a weights file is, by its first bytes and whatever its name; read without running anything in it."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from aiqvit.tasks.checkpoints import inert
from aiqvit.tasks.checkpoints.archives import check_directory, check_zip, unpacked
from aiqvit.tasks.checkpoints.bounds import Allowance, Beyond, check_size
from aiqvit.tasks.texts import expanded

from aiqvit.interfaces import UserError
from aiqvit.io.files import opened
from aiqvit.io.text import missing

EXPECTED = "expected safetensors, or a torch file (.pth, .pt, .bin) of tensors"
HEADER = 32_000_000  # bytes of the header of a safetensors file, which names the tensors
OTHERS = (  # first bytes -> what such a file is
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself: fetch it with git lfs pull"),
    (b"\x1f\x8b", "is a gzip archive: unpack it first"),
    (b"BZh", "is a bzip2 archive: unpack it first"),
    (b"7z\xbc\xaf", "is a 7-Zip archive: unpack it first"),
    (b"\x89HDF", "is an HDF5 file of Keras: convert it to safetensors first"),
    (b"\x93NUMPY", "is a NumPy array"),
    (b"GGUF", "is a GGUF file of quantized weights"),
    (b"<", "is a web page, so the download went wrong"),
    (b"{", "is JSON text, perhaps the index of a model in several files: merge them into one safetensors file"),
)


def read_file(path: str | Path) -> Any:
    """What a file holds: tensors by name, or what torch saved, with inert objects for all that is neither tensor nor
    plain container. Raises `UserError` for a file that is missing, of another format, or damaged.
    """
    path = expanded(path)
    where = f"weights file {str(path)!r}"
    if path.is_dir():
        raise UserError(f"weights {str(path)!r} is a folder: give the file in it, such as model.safetensors")
    if not path.is_file():
        raise UserError(f"{where} is no regular file" if path.exists() else missing("weights file", path))
    try:
        with opened(path) as file:
            start, size = file.read(64), os.fstat(file.fileno()).st_size
            check_size(size)
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror or error}") from error
    except Beyond as error:
        raise UserError(f"{where} is too large: {error}") from error
    try:
        return _read(path, start, size, where)
    except UserError:
        raise
    except Beyond as error:
        raise UserError(f"{where} is not read, because {error}: save model.state_dict() alone") from error
    except Exception as error:  # of the two libraries, whatever the file makes them raise
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise UserError(f"{where} cannot be read: there is not enough memory for it") from error
        raise UserError(f"{where} cannot be read, it is cut off or damaged ({_reason(error)}): {EXPECTED}") from error


def _read(path: Path, start: bytes, size: int, where: str) -> Any:
    if not start:
        raise UserError(f"{where} is empty: {EXPECTED}")
    if _is_safetensors(start):
        from safetensors.torch import load_file

        return load_file(path)
    if start.startswith(b"PK"):
        return _zip(path, size, where)
    if start.startswith(b"\x80"):
        return _old(path, size)
    text = start.lstrip(b"\xef\xbb\xbf \r\n\t")
    known = next((what for magic, what in OTHERS if text.startswith(magic)), "is of an unknown format")
    raise UserError(f"{where} {known}: {EXPECTED}")


def _is_safetensors(start: bytes) -> bool:
    """Eight bytes are the length of a JSON header, which begins behind them."""
    return len(start) > 9 and start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= HEADER


def _zip(path: Path, size: int, where: str) -> Any:
    try:
        check_directory(path, size)
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            check_zip(file, size)
    except zipfile.BadZipFile as error:
        raise UserError(f"{where} cannot be read, it is cut off or damaged: {EXPECTED}") from error
    if any(name.endswith(".npy") for name in names):
        raise UserError(f"{where} holds NumPy arrays (.npz): convert it to safetensors first")
    if not any(name.endswith("data.pkl") for name in names):
        raise UserError(f"{where} is a zip archive and no torch file: unpack it first; {EXPECTED}")
    reader = torch._C.PyTorchFileReader(str(path))
    if "constants.pkl" in reader.get_all_records():
        raise UserError(f"{where} is a TorchScript program, which would have to be run: save its state_dict()")
    return _torch(path, Allowance(unpacked(reader, size)))


class _Stream(io.FileIO):
    """A file whose number is not told, so that torch reads it as its format of today's or the one before.

    Where it knows the number it first tries a tar file, whose members it writes to the disk.
    """

    def fileno(self) -> int:
        """Raises `OSError`."""
        raise io.UnsupportedOperation


def _old(path: Path, size: int) -> Any:
    """The content of a file as torch wrote them before zip files."""
    allowance = Allowance(size)
    with io.BufferedReader(_Stream(path)) as file:
        found = _torch(file, allowance)
    if allowance.last is None or set(allowance.last) != set(allowance.held):
        raise ValueError("it does not have the numbers of all its tensors")
    return found


def _torch(file: Path | BinaryIO, allowance: Allowance) -> Any:
    """The content of a torch file of either format. Nothing but `inert` decides what a name in it means."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", pickle_module=inert.reader(allowance), weights_only=False,
                          encoding="latin1")


def _reason(error: Exception) -> str:
    """The first line of what a library says, short, without the codes of a coloured terminal."""
    text = "".join(c for c in (str(error).strip().splitlines() or [""])[0] if c.isprintable())
    return text[:120].rstrip(". ") or type(error).__name__
