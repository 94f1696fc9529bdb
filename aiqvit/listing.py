"""What `--list` shows: tasks, and methods with their settings and what each may be."""

from __future__ import annotations

from dataclasses import fields

from aiqvit.registry import METHODS, TASKS
from aiqvit.settings import bounded, kinds, typed, words


def show() -> int:
    """Print it; returns the exit code."""
    print("tasks: " + ", ".join(TASKS.usable("all")))
    print("methods:")
    for name in METHODS.usable("all"):
        cls = METHODS.get(name)
        print(f"  {name}: {cls.title}")
        known = kinds(cls)
        for f in fields(cls):
            if f.name in known:
                print(f"      {f'{f.name}={typed(f.default)}':<30} {words(bounded(known[f.name]))}")
        if cls.grids:
            print(f"      grids: {', '.join(cls.grids)}")
    return 0
