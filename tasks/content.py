"""What files hold, as digests: each is read once and remembered in the cache until it changes."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiqvit.tasks import memory
from tqdm import tqdm

from aiqvit.io.files import opened

NOBODY = "unreadable"  # in place of a digest: what reads such a file says so, or skips it
YOUNG = 2 * 10**9  # nanoseconds: a file written since may change again without another time stamp
BLOCK = 2**20  # bytes read at once
_seen: dict[tuple[str, str], str] = {}  # (path, stamp) -> digest, what this process has read or looked up


def digests(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of the content of each file, in order; `NOBODY` for one that cannot be read.

    A bar is shown on stderr when reading takes long. A memory that cannot be used costs time and nothing else.
    """
    names = [os.path.abspath(path) for path in paths]
    stamps = [_stamp(name) for name in names]
    places = list(zip(names, stamps, strict=True))
    _seen.update(memory.remembered([name for name, stamp in places if (name, stamp) not in _seen]))
    found = {name: _seen[name, stamp] for name, stamp in places if stamp and (name, stamp) in _seen}
    missing = [name for name in dict.fromkeys(names) if name not in found]
    fresh = dict(zip(missing, _read(missing), strict=True))
    old = {(name, stamp): digest for name, (stamp, digest) in fresh.items() if stamp}
    _seen.update(old)
    memory.remember([(*place, digest) for place, digest in old.items()])
    found |= {name: digest for name, (_, digest) in fresh.items()}
    return [found[name] for name in names]


def digest(path: Path) -> str:
    """The same of one file."""
    return digests([path])[0]


def combined(parts: Iterable[object]) -> str:
    """One SHA-256, hexadecimal, of the text of many parts in their order; none for no part."""
    text = "\n".join(map(str, parts))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if text else ""


def _stamp(path: str | int) -> str:
    """What changes when a file is written; empty for one that is not there."""
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _read(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(stamp, digest) of each file, on threads; the stamp is empty when the digest must not be remembered."""
    if not names:
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from tqdm(pool.map(_read_one, names), "reading the data once", total=len(names), unit="file", delay=2,
                        leave=False, file=sys.stderr)


def _read_one(name: str) -> tuple[str, str]:
    sha = hashlib.sha256()
    try:
        with opened(name) as file:
            before = _stamp(file.fileno())
            while block := file.read(BLOCK):
                sha.update(block)
            after, stat = _stamp(file.fileno()), os.fstat(file.fileno())
    except OSError:
        return "", NOBODY
    old = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > YOUNG
    return before if old and before == after else "", sha.hexdigest()
