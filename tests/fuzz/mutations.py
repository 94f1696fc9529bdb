"""Changed copies of good files: bytes flipped, cut, repeated and moved; JSON values exchanged; hostile words put in."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

WORDS = (b"nan", b"-1", b"1e999", b"0", b"99999999999999999999", b"\0", b"\xff\xfe", b"\n\n", b"\r", b",,", b"[" * 300,
         b'{"a":' * 300, b"../../x", b"/dev/zero", b"\x1b[2J", b"%s%n", b"=1+1", b"\xd9\xa3", b"\xed\xa0\x80", b'"',
         b"\xe2\x80\xae", b"PK\x03\x04", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"__import__('os')", b"cos\nsystem\n", b"\\")
VALUES = (None, True, False, 0, -1, 1, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e308, "", "x", "nan", "\0", "\u202e",
          "a\nb", "../x", "x" * 5000, [], {}, [[[]]], {"": {}}, [1, "2", None], {"a": 1})


def changed_bytes(good: bytes, draw: Random) -> bytes:
    """One to four changes."""
    content = bytearray(good)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at, size = draw.randrange(len(content) + 1), int(2 ** draw.uniform(0, 10))
        kind = draw.randrange(8)
        if kind < 3 and at < len(content):
            content[at] ^= 1 << draw.randrange(8)
        elif kind == 3:
            del content[at : at + size]
        elif kind == 4:
            del content[at:]
        elif kind == 5:
            content[at:at] = content[at : at + size] * draw.choice((1, 2, 30))
        elif kind == 6:
            content[at : at + draw.choice((0, 4))] = draw.choice(WORDS)
        else:
            other = draw.randrange(len(content) + 1)
            content[at : at + size] = content[other : other + size]
    return bytes(content)


def changed_json(good: Any, draw: Random) -> bytes:
    """One to three values exchanged, removed, doubled or renamed."""
    value = {"": copy.deepcopy(good)}
    for _ in range(draw.choice((1, 1, 2, 3))):
        inner, key = draw.choice(list(_places(value)))
        kind = draw.randrange(6)
        if kind == 0 and key != "":
            del inner[key]
        elif kind == 1 and isinstance(inner, dict) and key != "":
            inner[draw.choice(("x", "", "id", key + " "))] = inner.pop(key)
        elif kind == 2 and isinstance(inner, list):
            inner += [copy.deepcopy(inner[key])] * draw.choice((1, 3))
        else:
            inner[key] = copy.deepcopy(draw.choice(VALUES))
    return json.dumps(value[""]).encode()


def _places(value: Any) -> Any:
    for key in list(value if isinstance(value, dict) else range(len(value))):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])
