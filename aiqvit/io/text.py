"""Text files as editors leave them: UTF-8 with or without a byte order mark, UTF-16 of Windows, any end of line."""

from __future__ import annotations

import codecs
from difflib import get_close_matches
from pathlib import Path

from aiqvit.io.files import read_bytes


def read_text(path: str | Path, bound: str = "text_mib") -> str:
    """The text of a file without its byte order mark, lines ended by \\n.

    Raises `OSError`, also for one that is no regular file or beyond the `bound` of that name (`aiqvit.io.limits`), and
    `UnicodeDecodeError` for a file that is neither UTF-8 nor marked UTF-16.
    """
    content = read_bytes(path, bound)
    wide = len(content) > 2 and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def missing(what: str, path: str | Path) -> str:
    """The start of a message on a path that is not there: how much of it is, and what has nearly its name."""
    path = Path(path)
    parent = next((folder for folder in path.absolute().parents if folder.is_dir()), None)
    text = f"{what} {str(path)!r} does not exist"
    if parent is None:
        return text
    name = path.absolute().relative_to(parent).parts[0]
    try:
        names = sorted(entry.name for entry in parent.iterdir())
    except OSError:
        names = []
    if near := get_close_matches(name, names, n=1, cutoff=0.6) or [n for n in names if n.startswith(name)]:
        return f"{text}: did you mean {str(parent / near[0])!r}?"
    return f"{text}: the folder {str(parent)!r} has no {name!r}"
