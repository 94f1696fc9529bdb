"""The zip archive around a torch file: one that two readers understand alike, and that unpacks to no more than it may.

Python's reader of zip files corrects what does not add up, torch's takes it as it is written. So that what the one
measures is what the other unpacks, an archive must be as all programs write it: its directory at the place that its
last record states.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import torch
from aiqvit.tasks.checkpoints.bounds import TENSORS, Beyond, check_pickle, check_size

from aiqvit.io.files import opened

DENSE, SLACK = 10, 64 * 2**20  # a file unpacks to at most DENSE times its bytes and SLACK more
DIRECTORY = 32 * 2**20  # bytes of the list of parts
END, LARGE, PLACE = 22, 56, 20  # bytes of the last record; of the one of large archives, and of where that is


def check_directory(path: Path, size: int) -> None:
    """Raise `BadZipFile` for a file of `size` bytes that is more, less or other than one archive."""
    with opened(path) as file:
        file.seek(max(size - END - PLACE - LARGE, 0))
        tail = file.read()
    large, place, end = tail[: -PLACE - END], tail[-PLACE - END : -END], tail[-END:]
    if end[:4] != b"PK\5\6" or end[-2:] != b"\0\0":
        raise zipfile.BadZipFile("it does not end with the last record of an archive")
    (length, start), stop = struct.unpack("<LL", end[12:20]), size - END
    if place[:4] == b"PK\6\7":
        stop -= PLACE + LARGE
        if large[:4] != b"PK\6\6" or struct.unpack("<Q", place[8:16]) != (stop,):
            raise zipfile.BadZipFile("its last records do not lie in a row")
        length, start = struct.unpack("<QQ", large[40:56])
    if start + length != stop:
        raise zipfile.BadZipFile("its directory is not at the stated place")
    if length > DIRECTORY:
        raise Beyond(f"its list of parts is larger than {DIRECTORY // 2**20} MiB")


def check_zip(file: zipfile.ZipFile, packed: int) -> None:
    """Raise `Beyond` where an archive of `packed` bytes unpacks to too much, or to too many parts."""
    members = file.infolist()
    if len(members) > 2 * TENSORS:
        raise Beyond(f"it has {len(members)} parts")
    if any(b"\xff" * 4 in member.extra for member in members):  # a size that is stated twice
        raise zipfile.BadZipFile("the size of a part is not certain")
    _check_total(sum(member.file_size for member in members), packed)


def unpacked(reader: torch._C.PyTorchFileReader, packed: int) -> int:
    """Bytes that torch's own reader finds in the archive. Raises `Beyond` for too many."""
    total = sum(reader.get_record_size(name) for name in reader.get_all_records())
    _check_total(total, packed)
    check_pickle(reader.get_record_size("data.pkl"))
    return total


def _check_total(total: int, packed: int) -> None:
    if total > DENSE * packed + SLACK:
        raise Beyond(f"its {packed / 2**20:.1f} MiB unpack to {total / 2**20:.0f}, which no weights do")
    check_size(total)
