"""A method in a table: its title with the settings that differ from those that it has by itself, never stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from aiqvit.settings import typed

BITS = "bits:"  # how settings begin that go over the bits of single roles or layers; they have no default
INPUTS = "inputs:"  # how settings begin that are the task's, see `Subject.inputs`; tables do not show them


def label(title: str, settings: Mapping[str, Any], defaults: Mapping[str, Any], leave_out: Collection[str] = ()) -> str:
    """`AIQViT [rank=20]`, or `AIQViT` when nothing differs."""
    changed = variant(settings, defaults, leave_out)
    return f"{title} [{changed}]" if changed else title


def variant(settings: Mapping[str, Any], defaults: Mapping[str, Any], leave_out: Collection[str] = ()) -> str:
    """`dfq=off,rank=20`: the settings that differ, and bits of layers, in order, as they are typed."""
    shown = {*differing(settings, defaults), *(name for name in settings if name.startswith(BITS))}
    return ",".join(f"{name}={typed(settings[name])}" for name in settings if name in shown and name not in leave_out)


def differing(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that have a default and another value."""
    return {name: value for name, value in settings.items()
            if name in defaults and typed(value) != typed(defaults[name])}


def inputs(settings: Mapping[str, Any]) -> str:
    """`transform=crop 0.9`: how samples are prepared, where that is not the usual way; otherwise empty."""
    return ",".join(f"{name.removeprefix(INPUTS)}={typed(value)}" for name, value in settings.items()
                    if name.startswith(INPUTS))
