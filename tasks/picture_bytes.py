"""What a picture's file may make its decoder do besides its pixels: metadata, scans, and pieces larger than it is."""

from __future__ import annotations

import io
import os
import re
from typing import BinaryIO

from PIL import Image

SMALL, FEW = 2**20, 2**18  # bytes up to which metadata do no harm, and pixels up to which scans of so many bytes do not
LOOSE = 128 * 2**20  # bytes that a file may have, or its decoder read before it knows the size, with few pixels
BYTES = 16  # that a pixel may add to it: nothing has more, 4 channels of 32 bits
READS = 100_000  # that a decoder may do before it knows the size; a piece of metadata takes three or more
READS_EACH = 100  # pixels that allow one more read behind them, where metadata may follow
MARKERS = 150  # from the first scan of a JPEG on; an encoder writes about 10 scans, each with a table or two
MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # of a JPEG; not in coded pixels; all but the last say their length
END, SCAN = 0xD9, 0xDA
BLOCK = 2**16
TILE = 4096**2  # pixels that a piece of a TIFF may have although the picture is smaller
WIDTH, HEIGHT, ROWS = 322, 323, 278  # tags of a TIFF: of a tile, and of a strip


class Frugal(io.BufferedReader):
    """A file that raises `ValueError` when it is read in very many pieces, or very much of it at first.

    Decoders keep each piece of metadata as an object, which takes many times its bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Stands for an open file of which nothing is read yet."""
        super().__init__(file.raw)
        self.size, self.reads, self.most = os.fstat(self.fileno()).st_size, READS, LOOSE

    def read(self, size: int | None = -1) -> bytes:
        """As other files do."""
        size = self.size if size is None or size < 0 else min(size, self.size)
        self.reads, self.most = self.reads - 1, self.most - size
        if self.reads < 0 or self.most < 0:
            raise ValueError("it has more metadata than a picture has")
        return super().read(size)

    def opened(self, image: Image.Image) -> None:
        """The header is read: from here on only what follows the pixels of a PNG is counted."""
        pixels = image.width * image.height
        self.most = 2**62
        self.reads = READS + pixels // READS_EACH if image.format == "PNG" else 2**62


def check_bytes(file: BinaryIO, image: Image.Image) -> int:
    """How many pixels are decoded at once besides the picture's own, 0 in most formats.

    Raises `ValueError` for a file that is out of proportion to its picture, in any way that costs time or memory.
    """
    size, pixels = os.fstat(file.fileno()).st_size, image.width * image.height
    if size > LOOSE + BYTES * pixels:
        raise ValueError(f"a file of {size >> 20} MiB for {image.width} x {image.height} pixels")
    if image.format in ("JPEG", "MPO"):
        if (size > SMALL or pixels > FEW) and _has_many_scans(file):
            raise ValueError("it has more scans than a picture has")
    elif image.format == "PPM" and image.tile and image.tile[0][0] == "ppm_plain":
        raise ValueError("its pixels are written as text: save it as binary PPM, PGM or PBM, or as PNG")
    elif image.format == "TIFF":
        return _piece(file, image)
    return 0


def _has_many_scans(file: BinaryIO) -> bool:
    """Whether a JPEG has more than `MARKERS` markers from its first scan to its end."""
    start, block, last = 0, b"", False  # a block of the file, where it begins, and whether it ends the file
    position, begun, left = 2, False, MARKERS
    back = file.tell()
    while left:
        found = MARKER.search(block, max(position - start, 0))
        if found is None or found.end() + 2 > len(block):
            if last:
                break
            start = position = start + found.start() if found else max(position, start + len(block) - 1)
            file.seek(start)
            block = file.read(BLOCK)
            last = len(block) < BLOCK
            continue
        kind = block[found.end() - 1]
        if kind == END:
            break
        begun = begun or kind == SCAN
        left -= begun
        position = start + found.end() + int.from_bytes(block[found.end() : found.end() + 2])
    file.seek(back)
    return not left


def _piece(file: BinaryIO, image: Image.Image) -> int:
    """The pixels of a tile or strip of a TIFF, which are unpacked together.

    Raises `ValueError` for one much larger than the picture, and for a tag that is there twice, of which Pillow and
    the library that unpacks may take different ones.
    """
    tags = image.tag_v2
    if _names_twice(file, tags.offset):
        raise ValueError("it has a tag twice")
    rows = tags.get(ROWS, image.height)
    sides = (tags.get(WIDTH, 0), tags.get(HEIGHT, 0)) if WIDTH in tags or HEIGHT in tags else (image.width, rows)
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError("the size of its tiles is no number")
    if WIDTH not in tags and HEIGHT not in tags:
        return image.width * min(rows, image.height)
    if sides[0] * sides[1] > max(TILE, 2 * image.width * image.height):
        raise ValueError(f"tiles of {sides[0]} x {sides[1]} pixels in a picture of {image.width} x {image.height}")
    return sides[0] * sides[1]


def _names_twice(file: BinaryIO, offset: int) -> bool:
    """Whether the table of tags at `offset` has one twice."""
    back = file.tell()
    file.seek(0)
    head = file.read(4)
    order, big = ("little" if head[:2] == b"II" else "big"), 43 in head[2:]
    file.seek(offset)
    count, each = int.from_bytes(file.read(8 if big else 2), order), 20 if big else 12
    entries = file.read(min(count, 2**16) * each)
    file.seek(back)
    return len({entries[i : i + 2] for i in range(0, len(entries), each)}) * each < len(entries)
