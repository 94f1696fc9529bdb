"""What a run is: what was asked, what it is made of and by which versions; and the id that follows from it.

Not in it, though they move the last digits: processor, library versions and `--batch-size`. The record's manifest has
them (`numerics`, `packages`, `batch_size`), and the hash of the source (`source`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from aiqvit import ENGINE_VERSION
from aiqvit.harness.identity.labels import BITS, label
from aiqvit.interfaces import Method, Task
from aiqvit.io.names import LONGEST

REFERENCE = "fp32"  # the method that every other one is compared with


@dataclass(frozen=True)
class RunSpec:
    """One run. Runs with equal specs differ by what machines differ in at most, so one of them is executed."""

    task: str  # label of the task, for example imagenet-mini
    model: str
    weights: str  # sha256 of the model's weights
    data: str  # content of the samples to evaluate, see `DataIdentity`
    train: str  # names of the samples that calibration draws from
    calibration: str  # content of the samples drawn
    method: str  # its registered name
    settings: dict[str, Any]  # all hyper-parameters of the method, `images` (asked) too; and `inputs:...`
    version: str  # see `version_text`
    preset: str
    bits: str  # weights/activations
    seed: int
    limit: int | None  # images to evaluate; None for all
    device: str  # cpu or cuda
    threads: int  # of the CPU, which change the order of sums; 0 on a GPU

    @property
    def id(self) -> str:
        """See `run_id`."""
        return run_id(asdict(self))


def run_id(spec: Mapping[str, Any]) -> str:
    """A readable prefix and twelve hexadecimal digits of the SHA-256 of a spec as JSON; fit for a file name.

    It depends on nothing but the values, so that it can be made again from the spec in a record.
    """
    bits = "w{}a{}".format(*spec["bits"].split("/"))
    parts = [spec["task"], spec["model"], spec["method"]]
    parts += [] if spec["method"] == REFERENCE else [bits, f"s{spec['seed']}"]
    prefix = re.sub(r"[^\w.-]+", "_", ".".join(parts), flags=re.ASCII)
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{prefix[:LONGEST]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Run:
    """A spec with what it takes to execute and to show it."""

    spec: RunSpec
    method: Method
    defaults: Mapping[str, Any] = field(default_factory=dict)  # settings of the method here that the user could change
    explicit: bool = False  # the user asked for this number of calibration images
    source: str = ""  # hash of today's source of method and task
    metrics: tuple[str, ...] = ()  # that its record has once it has ended well
    partial: bool = False  # the user takes a model that cannot be quantized in all its parts
    keep: bool = False  # the quantized model is kept beside the record

    @property
    def reference(self) -> bool:
        """Whether this is the full-precision run."""
        return self.spec.method == REFERENCE

    @property
    def bit_rules(self) -> dict[str, str]:
        """Bits of single roles and layers, pattern -> bits (`aiqvit.quant.policy`): the settings `bits:PATTERN`."""
        return {k.removeprefix(BITS): str(v) for k, v in self.spec.settings.items() if k.startswith(BITS)}

    @property
    def label(self) -> str:
        """The method's title with the settings that the user changed."""
        return label(self.method.title, self.spec.settings, self.defaults)


def version_text(method: type[Method], task: type[Task], reference: bool = False) -> str:
    """`method 1, task 1, engine 1`; full precision needs no engine."""
    text = f"method {method.version}, task {task.version}"
    return text if reference else f"{text}, engine {ENGINE_VERSION}"
