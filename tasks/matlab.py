"""The devkit's `meta.mat`, by SciPy in a process of its own: a damaged file can crash it."""

from __future__ import annotations

import json
import sys
from io import BytesIO
from pathlib import Path

from aiqvit.tasks.apart import read_apart

from aiqvit.interfaces import UserError
from aiqvit.io.files import read_bytes
from aiqvit.io.structure import parse_json


def read_synsets(path: Path) -> dict[int, str]:
    """The devkit's number -> wnid. Raises `UserError` for another file."""
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise UserError(f"{str(path)!r} needs SciPy to be read: pip install scipy, or put the devkit's map_clsloc.txt "
                        "beside it") from error
    try:
        return {int(number): wnid for number, wnid in parse_json(read_apart(__name__, path)).items()}
    except ValueError as error:
        raise UserError(f"{str(path)!r} is not the devkit's meta.mat: {error}") from error


def main(path: str) -> None:
    """Print number -> wnid as JSON."""
    from scipy.io import loadmat

    rows = loadmat(BytesIO(read_bytes(path)), squeeze_me=True, variable_names=["synsets"])["synsets"]
    found = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if not int(row["num_children"])}
    json.dump(found, sys.stdout)
