"""How much is taken from outside: bounds that no honest file meets, each changed by an environment variable."""

from __future__ import annotations

import os

from aiqvit.interfaces import UserError

LIMITS = {  # name: (bound, what it bounds); the variable is AIQVIT_MAX_ and the name in capitals
    "text_mib": (48, "MiB of a text file: records, lists, tables, TOML"),
    "annotations_mib": (48, "MiB of a file of annotations"),
    "outcomes_mib": (256, "MiB of a file of what a model said of each sample"),
    "weights_gib": (16, "GiB that a weights file takes unpacked"),
    "megapixels": (100, "million pixels of a picture"),
}
DEPTH = 64  # levels of lists and tables in each other


def limit(name: str) -> int:
    """The bound of that name. Raises `UserError` for a variable that is no whole number above 0."""
    bound, what = LIMITS[name]
    text = os.environ.get(variable(name), "").strip()
    if not text:
        return bound
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise UserError(f"{variable(name)}={text!r}: expected a whole number above 0, {what}")
    return int(text)


def check() -> None:
    """Raise `UserError` for a variable that is set to no number, before it is taken for a fault of some file."""
    for name in LIMITS:
        limit(name)


def variable(name: str) -> str:
    """The environment variable that changes a bound."""
    return f"AIQVIT_MAX_{name.upper()}"
