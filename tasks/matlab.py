"""The devkit's `meta.mat`, by SciPy, unpacked within a bound: its reader calls itself once a level of the file."""

from __future__ import annotations

import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

from aiqvit.interfaces import UserError
from aiqvit.io.files import read_bytes

MOST = 8 * 2**20  # bytes of the file unpacked; the devkit's takes two
STACK = 2**29  # bytes for the reader's calls: 48 bytes of a file make another one
HEADER, PACKED = 128, 15  # bytes in front, and the type of a packed element


def read_synsets(path: Path) -> dict[int, str]:
    """The devkit's number -> wnid. Raises `UserError` for another file."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(f"{str(path)!r} needs SciPy to be read: pip install scipy, or put the devkit's map_clsloc.txt "
                        "beside it") from error

    def read() -> dict[int, str]:
        rows = loadmat(BytesIO(_unpacked(read_bytes(path))), squeeze_me=True, variable_names=["synsets"])["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if not int(row["num_children"])}

    before = threading.stack_size(STACK)
    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(read).result()
    except Exception as error:  # of the reader, whatever a damaged file makes it raise
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{str(path)!r} is not the devkit's meta.mat: {type(error).__name__}, {said}") from error
    finally:
        threading.stack_size(before)


def _unpacked(content: bytes) -> bytes:
    """The same file with no element packed. Raises `ValueError` for one that is too large or of another version."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER])
    if order is None:
        raise ValueError("it is no MATLAB 5 file")
    parts, place = [content[:HEADER]], HEADER
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        if kind == PACKED:
            unpacker = zlib.decompressobj()
            parts.append(unpacker.decompress(content[place + 8 : place + 8 + size], MOST))
            if unpacker.unconsumed_tail:
                raise ValueError(f"an element unpacks to more than {MOST >> 20} MiB")
        else:
            parts.append(content[place : place + 8 + size])
        place += 8 + size
    if sum(map(len, parts)) > MOST:
        raise ValueError(f"it unpacks to more than {MOST >> 20} MiB")
    return b"".join(parts)
