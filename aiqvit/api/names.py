"""The names that methods and tasks have."""

from __future__ import annotations

from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.registry import METHODS, TASKS


def list_methods() -> list[str]:
    """Names for `quantize(method=...)`, those of installed packages too.

    >>> "aiqvit" in list_methods()
    True
    """
    return [name for name in METHODS.usable("all") if name != REFERENCE]


def list_tasks() -> list[str]:
    """Names of the tasks.

    >>> "imagenet" in list_tasks()
    True
    """
    return list(TASKS.names())
