"""What counts as a picture, and its pixels as RGB of 8 bits."""

from __future__ import annotations

import numpy as np
from PIL import Image, UnidentifiedImageError
from torchvision.datasets.folder import IMG_EXTENSIONS

SUFFIXES = tuple(sorted({*IMG_EXTENSIONS, ".jpe", ".jfif"}))
SIXTEEN = 65535  # white in 16 bits; divided by 255 it is 257, so 8 bits and the same in 16 give the same picture
WHITES = {"I": (255, SIXTEEN), "F": (1, 255, SIXTEEN)}  # what white may be in pixels of 32 bits: the file does not say
BY_NATURE = ("PNG", "PPM")  # formats that have nothing wider than 16 bits, whatever Pillow puts it in


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture as RGB of 8 bits; gray of 16 bits is divided by 257, which Pillow would cut off at 255.

    In 32-bit integers white is 255 or 65535, in floats 1, 255 or 65535: the smallest that no pixel is above. Raises
    `ValueError` for pixels that are below 0, above all of these or not finite.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return image.convert("RGB")
    pixels = np.asarray(image).astype(np.float64)  # (height, width)
    low, high = pixels.min(), pixels.max()
    sixteen = image.mode.startswith("I;16") or image.format in BY_NATURE
    whites = (SIXTEEN,) if sixteen else WHITES.get(image.mode, ())
    white = next((w for w in whites if high <= w), None)
    if white is None or not low >= 0:
        raise ValueError(f"pixels from {low:g} to {high:g}: expected 0 to {', '.join(map(str, whites))}")
    return Image.fromarray(np.rint(pixels * (255 / white)).astype(np.uint8)).convert("RGB")


def reason(error: Exception) -> str:
    """Why a picture cannot be read, in a few words and without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that can be decoded"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(str(error).strip().partition("\n")[0]) or type(error).__name__


def printable(text: str) -> str:
    """A name as it can be shown and stored: bytes that are no text are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
