"""What the user typed becomes methods with hyper-parameters.

    aiqvit,rep*                        names and globs
    aiqvit[curriculum=off,rank=60]     a variant: fields of the method's dataclass, read by their type
    qdrop[bits:head=8,bits:qkv=6/4]    bits of single roles and layers, of any method: see `aiqvit.quant.policy`
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from aiqvit.harness.identity.labels import BITS
from aiqvit.harness.identity.spec import REFERENCE
from aiqvit.interfaces import Method, UserError
from aiqvit.plugins import reason, say
from aiqvit.registry import METHODS, unknown
from aiqvit.settings import SHOWN, bounded, check, kinds, read

PRESETS = ("smoke", "quick", "paper")


@dataclass(frozen=True)
class MethodSpec:
    """A method that the user chose, the fields that the user changed, and bits of single layers (`bits:...`)."""

    name: str
    method: type[Method]
    changed: dict[str, Any]

    @property
    def bit_rules(self) -> dict[str, str]:
        """Bits of single roles and layers, pattern -> bits (`aiqvit.quant.policy`)."""
        return {key.removeprefix(BITS): value for key, value in self.changed.items() if key.startswith(BITS)}

    def defaults(self, preset: str, limits: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The method's settings where the user changes none: its own, the preset's, none beyond `limits`."""
        values = {f.name: f.default for f in fields(self.method) if f.init} | self.method.presets.get(preset, {})
        return values | {key: _bounded(key, values[key], most) for key, most in (limits or {}).items() if key in values}

    def build(self, preset: str, limits: Mapping[str, Any] | None = None) -> Method:
        """The method with its defaults and then the user's fields. Raises `UserError` for values that it refuses."""
        changed = {key: value for key, value in self.changed.items() if not key.startswith(BITS)}
        try:
            for key, kind in kinds(self.method).items():
                if key in changed:
                    check(key, bounded(kind), changed[key])
            return self.method(**{**self.defaults(preset, limits), **changed})
        except ValueError as error:
            raise UserError(f"method {self.name!r}: {error}") from error
        except Exception as error:  # of another package's constructor
            raise UserError(f"method {self.name!r}: {reason(error)}") from error


def _bounded(key: str, value: float, most: float) -> float:
    """`value`, at most `most`: 0 means all and is more than any bound, except of `images`, where it means none."""
    return most if not value and key != "images" else min(value, most)


def split(text: str) -> list[str]:
    """Parts of a comma list; commas inside brackets do not separate. Raises `UserError` for an empty list."""
    parts = [p.strip() for p in re.split(r",(?![^\[]*\])", text)]
    parts = [p for p in parts if p]
    if not parts:
        raise UserError(f"empty list {text!r}")
    return parts


def choose_methods(expression: str, settings: Iterable[str] = (), calib: int | None = None) -> list[MethodSpec]:
    """Methods of a comma list of names, globs and variants, each once; `settings` are `key=value` for all of them.

    `calib` sets how many images each method calibrates on. Raises `UserError` for an unknown name or field, a value of
    the wrong type, and a setting that no chosen method has.
    """
    picked: dict[tuple[str, str], type[Method]] = {}
    for part in split(expression):
        found = re.fullmatch(r"([^\[\]]+)(?:\[(.*)\])?", part)
        if not found:
            raise UserError(f"method {part!r}: expected NAME or NAME[key=value,...]")
        for name in _usable(found[1].strip()):
            picked[name, re.sub(r"\s*([,=])\s*", r"\1", found[2] or "").strip()] = METHODS.get(name)
    shared = [_pair(text) for text in settings]
    for key, _ in shared:
        have = [f for cls in picked.values() for f in kinds(cls)]
        if key not in have and not key.startswith(BITS):
            raise unknown("setting", key, dict.fromkeys(have))
    choices = []
    for (name, variant), cls in picked.items():
        changed = {} if name == REFERENCE or calib is None else {"images": calib}
        changed |= {k: _read(name, cls, k, v) for k, v in shared
                    if k in kinds(cls) and not (k == "rotate" and name == REFERENCE)
                    or k.startswith(BITS) and name != REFERENCE}
        changed |= {k: _read(name, cls, k, v) for k, v in _variant_pairs(variant)}
        choices.append(MethodSpec(name, cls, changed))
    return choices


def _usable(pattern: str) -> list[str]:
    """Names that a pattern means; a method that is there for its grids has to be called by its name."""
    names = METHODS.usable(pattern)
    return [name for name in names if name == pattern or not METHODS.get(name).only_in_grids]


def grid_methods(name: str) -> str:
    """The expression for `choose_methods` that an ablation grid stands for. Raises `UserError` for an unknown one."""
    found: dict[str, str] = {}
    for method in METHODS.usable("all"):
        for grid, variants in METHODS.get(method).grids.items():
            if grid in found:
                say(f"the grid {grid!r} of the method {method!r} is left out: another method has one of that name")
                continue
            found[grid] = ",".join(f"{method}[{variant}]" if variant else method for variant in variants)
    if name not in found:
        raise unknown("grid", name, found)
    return found[name]


def _variant_pairs(text: str) -> list[tuple[str, str]]:
    """`a=1,b=2,3` is `a=1` and `b=2,3`: a part without `=` goes on with the value before it."""
    joined: list[str] = []
    for part in text.split(",") if text else []:
        if "=" in part or not joined:
            joined.append(part)
        else:
            joined[-1] += f",{part}"
    return [_pair(part) for part in joined]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key.strip()):
        raise UserError(f"setting {text!r}: expected key=value")
    return key.strip(), value.strip()


def _read(name: str, cls: type[Method], key: str, text: str) -> Any:
    if key.startswith(BITS):
        return text
    if key not in kinds(cls):
        raise unknown(f"setting of {cls.title}", key, kinds(cls))
    try:
        return read(bounded(kinds(cls)[key]), text)
    except ValueError as error:
        raise UserError(f"method {name!r}: {key}={text[:SHOWN]}: {error}") from error
