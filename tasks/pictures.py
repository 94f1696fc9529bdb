"""What counts as a picture, the one place where pictures are opened, and their pixels as RGB of 8 bits."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from aiqvit.tasks.picture_bytes import SMALL, Frugal, check_bytes
from PIL import Image, UnidentifiedImageError
from torchvision.datasets.folder import IMG_EXTENSIONS

from aiqvit.io.escape import line
from aiqvit.io.files import opened
from aiqvit.io.limits import limit, variable

SUFFIXES = tuple(sorted({*IMG_EXTENSIONS, ".jpe", ".jfif"}))
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")  # by content; none of their decoders starts a program
UNREAD = "not a picture that can be decoded: expected JPEG, PNG, WebP, BMP, GIF, PPM or TIFF"
SIXTEEN = 65535  # white in 16 bits; divided by 255 it is 257, so 8 bits and the same in 16 give the same picture
WHITES = {"I": (255, SIXTEEN), "F": (1, 255, SIXTEEN)}  # what white may be in pixels of 32 bits: the file does not say
BY_NATURE = ("PNG", "PPM")  # formats that have nothing wider than 16 bits, whatever Pillow puts it in
SLIMMEST = 100  # longer side through shorter one: the shorter one is resized to the model's, the longer one with it
MEMORY = 2**30  # bytes that all pictures being decoded take together, about; a larger one is decoded alone
NARROW, WIDE = 8, 16  # bytes that a pixel takes while it becomes RGB, of 8 bits and of more
ROWS = 64  # of wide pixels, converted at once

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is fixed; here it is `aiqvit.io.limits`
Image.core.set_block_size(64 * 2**20)  # so that memory of large pictures goes back to the system, not to each thread


class _Shared:
    """An amount that threads share: who takes some waits until it is there, and who takes too much waits for all."""

    def __init__(self, total: int) -> None:
        self.total = self.left = total
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        amount = min(amount, self.total)
        with self.changed:
            self.changed.wait_for(lambda: self.left >= amount)
            self.left -= amount
        try:
            yield
        finally:
            with self.changed:
                self.left += amount
                self.changed.notify_all()


_memory = _Shared(MEMORY)


@contextlib.contextmanager
def header(path: str | Path) -> Iterator[Image.Image]:
    """A picture whose header is read and whose pixels are not.

    Raises `OSError` for what is no regular file or no picture of `FORMATS`, `ValueError` for one with too many pixels,
    too slim or with a file out of proportion, and whatever a decoder says of one that is damaged.
    """
    with _header(path) as (_, image, _):
        yield image


@contextlib.contextmanager
def _header(path: str | Path) -> Iterator[tuple[BinaryIO, Image.Image, int]]:
    """The same with its open file, and the pixels that are decoded besides its own."""
    with opened(path) as plain:
        size = _check_bytes(path, plain)
        file = Frugal(plain) if size > SMALL else plain
        with file, Image.open(file, formats=FORMATS) as image:
            _check_size(*image.size)
            if isinstance(file, Frugal):
                file.opened(image)
            yield file, image, check_bytes(file, image)


@contextlib.contextmanager
def rgb(path: str | Path) -> Iterator[Image.Image]:
    """A picture as RGB of 8 bits, for as long as the memory that all threads share is taken for it.

    Raises as `header` and `as_rgb` do.
    """
    with _header(path) as (_, image, more):
        pixels = image.width * image.height + more
        with _memory.taken(pixels * (WIDE if _is_wide(image) else NARROW)):
            yield as_rgb(image)


def read_rgb(path: str | Path) -> Image.Image:
    """The same, to keep."""
    with rgb(path) as image:
        return image


def read_checked(path: str | Path) -> tuple[bytes, tuple[int, int]]:
    """The bytes of a picture, and its width and height, for another decoder. Raises as `header` does."""
    with _header(path) as (file, image, _):
        size = image.size
        file.seek(0)
        return file.read(), size


def _check_bytes(path: str | Path, file: BinaryIO) -> int:
    size = os.fstat(file.fileno()).st_size
    most = 8 * 10**6 * limit("megapixels")  # no format needs more for a picture within the limit
    if size > most:
        said = f"larger than {most // 10**6} MB ({variable('megapixels')} sets the limit)"
        raise OSError(errno.EFBIG, said, str(path))
    return size


def _check_size(width: int, height: int) -> None:
    if width * height > 10**6 * limit("megapixels"):
        raise ValueError(f"{width} x {height} pixels, more than {limit('megapixels')} million "
                         f"({variable('megapixels')} sets the limit)")
    if max(width, height) > SLIMMEST * min(width, height):
        raise ValueError(f"{width} x {height} pixels: one side is more than {SLIMMEST} times the other")


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture as RGB of 8 bits; gray of 16 bits is divided by 257, which Pillow would cut off at 255.

    In 32-bit integers white is 255 or 65535, in floats 1, 255 or 65535: the smallest that no pixel is above. Raises
    `ValueError` for pixels that are below 0, above all of these or not finite.
    """
    if not _is_wide(image):
        return image.convert("RGB")
    pixels = np.asarray(image)  # (height, width)
    low, high = float(pixels.min()), float(pixels.max())
    sixteen = image.mode.startswith("I;16") or image.format in BY_NATURE
    whites = (SIXTEEN,) if sixteen else WHITES.get(image.mode, ())
    white = next((w for w in whites if high <= w), None)
    if white is None or not low >= 0:
        raise ValueError(f"pixels from {low:g} to {high:g}: expected 0 to {', '.join(map(str, whites))}")
    gray = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(gray), ROWS):  # in pieces: in double precision the whole takes four times the picture
        gray[top : top + ROWS] = np.rint(pixels[top : top + ROWS].astype(np.float64) * (255 / white))
    return Image.fromarray(gray).convert("RGB")


def _is_wide(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def reason(error: Exception) -> str:
    """Why a picture cannot be read, in a few words and without its path."""
    if isinstance(error, UnidentifiedImageError):
        return UNREAD
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return line(str(error).strip().partition("\n")[0])[:200] or type(error).__name__
