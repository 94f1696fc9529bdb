"""What the export needs to be installed, and how new."""

from __future__ import annotations

import re
from importlib import metadata
from typing import get_args

from aiqvit.deploy.onnx.weights import Target
from aiqvit.interfaces import UserError

OLDEST = {"torch": (2, 7), "onnx": (1, 17), "onnxscript": (0, 7), "onnxruntime": (1, 23)}  # these were tried
OPSETS = (21, 23)  # the first with the types that we store; the last that the exporter was tried with


def require(opset: int = OPSETS[0], target: str = "ort") -> None:
    """Raise `UserError` for an extra that is missing, a package that is too old, and what no file is made for."""
    first, last = OPSETS
    if target not in get_args(Target):
        raise UserError(f"target {target!r}: expected one of {', '.join(get_args(Target))}")
    if not first <= opset <= last:
        raise UserError(f"opset {opset} does not do: the types of the weights need {first} or newer, and {last} is the "
                        "newest that is known here")
    for package, oldest in OLDEST.items():
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise UserError("the export needs onnx, onnxscript and onnxruntime: pip install 'aiqvit[onnx]'") from None
        if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < oldest:
            needed = ".".join(map(str, oldest))
            raise UserError(f"{package} {found} is too old for the export, which needs {needed} or newer: "
                            f"pip install -U {package}")
