"""Progress on stderr: a bar on a terminal, one line a finished phase otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_shown = {"progress": True}


def quiet() -> None:
    """Show nothing from now on in this process: several at once would garble one screen."""
    _shown["progress"] = False


def progress(items: Iterable[T], description: str = "", total: int | None = None) -> Iterable[T]:
    """Yield `items`, showing how far the loop is; `total` is their number when `items` has no length."""
    if not _shown["progress"]:
        return items
    if sys.stderr.isatty():
        return tqdm(items, description, total=total, leave=False, file=sys.stderr, dynamic_ncols=True, position=0)
    return _lines(items, description)


def of_runs(ended: Iterable[T], total: int) -> Iterable[T]:
    """Yield runs as they end, below a bar of them on a terminal; lines are printed by `say` meanwhile."""
    if not sys.stderr.isatty():
        return ended
    return tqdm(ended, "runs", total=total, leave=False, file=sys.stderr, dynamic_ncols=True, smoothing=0)


def say(text: str) -> None:
    """Print a line above the bars that are shown."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def _lines(items: Iterable[T], description: str) -> Iterator[T]:
    start, count = time.monotonic(), 0
    for item in items:
        yield item
        count += 1
    print(f"    {description}: {count} steps, {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
