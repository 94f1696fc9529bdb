"""File names made from text that somebody else chose: labels, settings, run ids, names of models."""

from __future__ import annotations

import hashlib
import re

LONGEST = 150  # characters; file systems take 255 bytes


def file_name(text: str) -> str:
    """A name for one file in one folder, the text itself where it is harmless.

    Letters, digits and `_ . , = + -` stay, anything else becomes `_`; a name never starts with a dot or a dash and is
    never longer than `LONGEST`. Where something was changed, eight hexadecimal digits of the text's SHA-256 stand at
    the end, so that two texts never share a file.
    """
    name = re.sub(r"[^A-Za-z0-9_.,=+-]", "_", text)
    name = re.sub(r"^[.-]+", lambda found: "_" * len(found[0]), name)[:LONGEST]
    if name and name == text:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: LONGEST - 9] or '_'}-{digest}"
