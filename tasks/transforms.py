"""How pictures are prepared for a model: as typed, or as its weights file says, or as timm's pretrained model was.

Each of size, crop, mean, std and interpolation comes from the first of the three that has it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiqvit.tasks.checkpoints.formats import read_file
from timm.data import create_transform, resolve_data_config
from timm.data.transforms import _str_to_pil_interpolation

from aiqvit.interfaces import UserError
from aiqvit.io.escape import line
from aiqvit.io.structure import parse_json
from aiqvit.io.text import read_text

FILTERS = tuple(sorted(_str_to_pil_interpolation))
KEYS = ("mean", "std", "crop", "size", "interpolation")
INNER = ("pretrained_cfg", "default_cfg", "data_config", "config", "args", "hparams")  # where a checkpoint keeps them
BESIDE = ("config.json", "preprocessor_config.json")
LARGEST = 1024  # pixels of a side that a file may ask for; larger ones are typed
PLAIN = (bool, int, float, str, list, tuple, Mapping)
Values = dict[str, Any]  # of timm: mean, std, crop_pct, input_size, interpolation, crop_mode


def typed(text: str) -> Values:
    """`mean=0.5,0.5,0.5,crop=0.9` as timm's values. Raises `UserError` for an unknown key and a wrong value."""
    pairs: list[tuple[str, list[str]]] = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals:
            pairs.append((key.strip(), [value.strip()]))
        elif pairs:
            pairs[-1][1].append(part.strip())
        else:
            raise UserError(f"--transform {text!r}: expected KEY=VALUE,... with {', '.join(KEYS)}")
    found: Values = {}
    for key, values in pairs:
        if key not in KEYS:
            raise UserError(f"--transform {key}={','.join(values)}: expected one of {', '.join(KEYS)}")
        name, value = _read(key, values)
        if value is None:
            raise UserError(f"--transform {key}={','.join(values)}: expected {_EXPECTED[key]}")
        if name in found:
            raise UserError(f"--transform: {key} is there twice")
        found[name] = value
    return found


_EXPECTED = {
    "mean": "one number or three from 0 to 1, for example 0.485,0.456,0.406 (for pixels up to 255: divide by 255)",
    "std": "one number or three above 0 up to 1, for example 0.229,0.224,0.225 (for pixels up to 255: divide by 255)",
    "crop": "the share of the picture's shorter side that is seen, above 0 and up to 1, for example 0.875",
    "size": "pixels, as 224 or HEIGHTxWIDTH",
    "interpolation": f"one of {', '.join(FILTERS)}",
}


def _read(key: str, values: list[Any]) -> tuple[str, Any]:
    """timm's name and the value; None for a wrong one."""
    with contextlib.suppress(ValueError, TypeError, OverflowError, IndexError, RuntimeError):  # the last of tensors
        if any(isinstance(v, bool) for v in values):  # which Python takes for 1
            return key, None
        if key in ("mean", "std"):
            numbers = [float(v) for v in values]
            good = len(numbers) in (1, 3) and all(0 <= n <= 1 and (n > 0 or key == "mean") for n in numbers)
            return key, tuple(numbers * (3 // len(numbers))) if good else None
        if key == "crop":
            number = float(values[0])
            return "crop_pct", number if len(values) == 1 and 0 < number <= 1 else None
        if key == "size":
            sides = [int(v) for v in (str(values[0]).lower().split("x") if len(values) == 1 else values)]
            good = len(sides) in (1, 2) and all(0 < side <= 16384 for side in sides)
            return "input_size", (3, sides[0], sides[-1]) if good else None
        return key, values[0] if len(values) == 1 and values[0] in FILTERS else None
    return key, None


def of_weights(path: str | Path, model: str) -> tuple[Values, str]:
    """What a weights file says itself, or `config.json` beside it when that is of this model; and where it was said.

    Values that make no sense are left out, as the file may mean something else by the name.
    """
    for where, content in (*_inside(Path(path)), *_beside(Path(path))):
        named = content.get("architecture", content.get("arch"))
        if isinstance(named, str) and not _same(named, model):
            continue
        parts = [content, *(inner for key in INNER if isinstance(inner := content.get(key), Mapping))]
        found: Values = {}
        for part in parts:
            found = _known({k: v for k, v in part.items() if isinstance(v, PLAIN)}) | found
        if found:
            return found, where
    return {}, ""


def _inside(path: Path) -> list[tuple[str, Mapping]]:
    """The containers of a weights file, read as weights are; a file that cannot be read has none."""
    with contextlib.suppress(UserError):
        content = read_file(path)
        if isinstance(content, Mapping):
            return [("the weights file", content)]
    return []


def _beside(path: Path) -> list[tuple[str, Mapping]]:
    found = []
    for name in BESIDE:
        with contextlib.suppress(OSError, ValueError):
            content = parse_json(read_text(path.parent / name))
            if isinstance(content, Mapping):
                found.append((f"{name} beside the weights", content))
    return found


def _same(named: str, model: str) -> bool:
    return named.partition(".")[0] == model.partition(".")[0]


def _known(part: Mapping) -> Values:
    """timm's values in one container, or those of an image processor of transformers."""
    raw = _processor(part) if "image_mean" in part else {
        **{key: part.get(key) for key in ("mean", "std", "interpolation")}, "crop": part.get("crop_pct"),
        "size": part.get("input_size") or part.get("img_size")}
    found: Values = {}
    for key, value in raw.items():
        values = list(value) if isinstance(value, list | tuple) else [value]
        name, good = _read(key, values[1:] if key == "size" and len(values) == 3 else values)
        if good is not None and not (key == "size" and max(good) > LARGEST):
            found[name] = good
    mode = part.get("crop_mode", raw.get("crop_mode"))
    return found | ({"crop_mode": mode} if mode in ("center", "squash", "border") else {})


def _processor(part: Mapping) -> dict[str, Any]:
    """Pictures are resized to `size`, whatever their shape, or their shorter side is, and then cropped."""
    def side(value: Any) -> Any:
        return value.get("height", value.get("shortest_edge")) if isinstance(value, Mapping) else value

    seen, whole = side(part.get("crop_size")), side(part.get("size"))
    cropped = part.get("do_center_crop") and isinstance(seen, int) and isinstance(whole, int) and 0 < seen <= whole
    resample = part.get("resample")
    return {"mean": part["image_mean"], "std": part.get("image_std"), "size": seen if cropped else whole,
            "crop": seen / whole if cropped else 1.0, "crop_mode": "center" if cropped else "squash",
            "interpolation": {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}.get(
                resample if isinstance(resample, int) else None)}


def resolve(usual: Mapping[str, Any], said: Values, asked: Values) -> Values:
    """timm's complete values: those asked for, then those that the weights say, then the usual ones."""
    return resolve_data_config({}, pretrained_cfg={**usual, **said, **asked})


def differences(values: Values, usual: Values) -> dict[str, str]:
    """What differs from the usual, under the names that one types, as text."""
    return {key: _text(key, values[name]) for key, name in _NAMES.items() if not _equal(values[name], usual[name])}


_NAMES = {"mean": "mean", "std": "std", "crop": "crop_pct", "size": "input_size", "interpolation": "interpolation",
          "crop_mode": "crop_mode"}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return math.isclose(one, other, rel_tol=1e-9) if isinstance(one, float) else one == other


def _text(key: str, value: Any) -> str:
    if key == "size":  # (3, height, width)
        return f"{value[1]}" if value[1] == value[2] else f"{value[1]}x{value[2]}"
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else line(str(value))


def build(values: Values) -> Callable:
    """The transform: a picture to a tensor (3, H, W)."""
    return create_transform(**values, is_training=False)
