"""A TOML file in place of flags: `bits = ["3/3", "4/4"]` means what `--bits 3/3,4/4` means."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from aiqvit.interfaces import UserError
from aiqvit.io.text import missing, read_text
from aiqvit.registry import unknown
from aiqvit.settings import SHOWN

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def flags(path: str, parser: argparse.ArgumentParser) -> list[str]:
    """The file as arguments of `parser`, to be put before those typed, which then win.

    Lists are joined by commas, switches are true or false, `set` and `transform` may be tables. Raises
    `UserError` for a file that cannot be read, a key that is no flag, and a value of the wrong kind.
    """
    try:
        content = tomllib.loads(read_text(path))
    except FileNotFoundError as error:
        raise UserError(missing("config file", path)) from error
    except OSError as error:
        raise UserError(f"config file {path!r} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise UserError(f"config file {path!r} is nested too deeply") from error
    except ValueError as error:  # of TOML, or not UTF-8
        raise UserError(f"config file {path!r} is not TOML: {error}") from error
    known = {flag[2:]: action for action in parser._actions for flag in action.option_strings if flag[:2] == "--"}
    for name in ("help", "config"):
        del known[name]
    found = []
    for key, value in content.items():
        name = key.replace("_", "-")
        if name not in known:
            raise unknown(f"key in {path!r}:", key, known)
        found += _arguments(name, known[name], value, path)
    return found


def _arguments(name: str, action: argparse.Action, value: Any, path: str) -> list[str]:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UserError(f"{name} in {path!r}: expected true or false")
        return [f"--{name}"] if value else []
    if isinstance(action.default, list):  # a flag that may be repeated
        pairs = [f"{k}={_text(v, name, path)}" for k, v in value.items()] if isinstance(value, dict) else value
        return [f"--{name}={_text(pair, name, path)}" for pair in (pairs if isinstance(pairs, list) else [pairs])]
    if isinstance(value, dict) and action.metavar == "KEY=VALUE,...":
        return [f"--{name}=" + ",".join(f"{k}={_text(v, name, path)}" for k, v in value.items())]
    return [f"--{name}={_text(value, name, path)}"]


def _text(value: Any, name: str, path: str, inside: bool = False) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list) and not inside:
        return ",".join(_text(part, name, path, inside=True) for part in value)
    if not isinstance(value, str | int | float) or isinstance(value, int) and value.bit_length() > 200:
        raise UserError(f"{name} in {path!r}: expected a text, a number or a list of them")
    if not (text := str(value)).isprintable():
        raise UserError(f"{name} in {path!r}: {text[:SHOWN]!r} has a character that cannot be printed")
    return text
