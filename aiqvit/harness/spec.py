"""What a run is: everything that can change its numbers, and the id that follows from it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from aiqvit.interfaces import Method

REFERENCE = "fp32"  # the method that every other one is compared with


@dataclass(frozen=True)
class RunSpec:
    """One run. Two runs with equal specs give equal numbers, so only one of them is ever executed."""

    task: str  # label of the task, for example imagenet-mini
    model: str
    weights: str  # sha256 of the model's weights
    data: str  # checksum of the data list
    method: str  # its registered name
    settings: dict[str, Any]  # every hyper-parameter of the method, `images` (asked) included
    code: str  # hash of the source of method and task, with all that they import here
    preset: str
    bits: str  # weights/activations
    seed: int
    limit: int | None  # images to evaluate; None for all
    device: str  # cpu or cuda
    threads: int  # of the CPU, which change the order of sums; 0 on a GPU

    def canonical(self) -> str:
        """The spec as JSON that depends on nothing but its values."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def id(self) -> str:
        """A readable prefix and twelve hexadecimal digits of the SHA-256 of the spec; fit for a file name."""
        bits = "w{}a{}".format(*self.bits.split("/"))
        parts = [self.task, self.model, self.method] + ([] if self.method == REFERENCE else [bits, f"s{self.seed}"])
        prefix = re.sub(r"[^\w.-]+", "_", ".".join(parts))
        return f"{prefix}-{hashlib.sha256(self.canonical().encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Run:
    """A spec with what it takes to execute and to show it."""

    spec: RunSpec
    method: Method
    label: str  # the method's title with the settings that the user changed
    explicit: bool = False  # the user asked for this number of calibration images

    @property
    def reference(self) -> bool:
        """Whether this is the full-precision run."""
        return self.spec.method == REFERENCE
