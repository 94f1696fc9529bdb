"""What a record is: the type of every field that anything reads, and the checksum that tells whether it was changed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Interval, Len
from pydantic import AfterValidator, ConfigDict, FiniteFloat, JsonValue, StringConstraints
from typing_extensions import NotRequired, TypedDict

FORMAT = 2  # of records; 1 had no checksum
MORE = ConfigDict(extra="allow")  # fields of a later version do no harm


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


def _percent(metrics: dict[str, Any]) -> dict[str, Any]:
    for name, value in metrics.items():
        number = float(value)
        if name in COUNTS and (not isinstance(value, int) or value < 0):
            raise ValueError(f"{name} is {value}: expected a number of samples")
        if name in NATS and not (math.isnan(number) or number >= 0):
            raise ValueError(f"{name} is {value}: expected nats, at least 0")
        if name not in (*COUNTS, *NATS) and not (math.isnan(number) or 0 <= number <= 100):
            raise ValueError(f"{name} is {value}: expected percent, from 0 to 100")
    return metrics


def _short(settings: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(settings)) > 100_000:  # bits of every layer fit
        raise ValueError("they are longer than those of any run")
    return settings


COUNTS = ("images", "skipped")  # metrics that are no percentages
NATS = ("kl",)  # neither
Name = Annotated[str, StringConstraints(max_length=200), AfterValidator(_printable)]
Text = Annotated[str, StringConstraints(max_length=5_000)]
Long = Annotated[str, StringConstraints(max_length=100_000)]
Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]*$", max_length=64)]
Count = Annotated[int, Interval(ge=0, le=10**15)]
Amount = Annotated[FiniteFloat, Interval(ge=0, le=1e12)]  # of seconds, of MiB
Share = Annotated[FiniteFloat, Interval(ge=0, le=1)]
Number = FiniteFloat | Literal["nan", "inf", "-inf"]  # JSON has no numbers for these
Whole = Annotated[int, Interval(ge=-(10**15), le=10**15)]
Metrics = Annotated[dict[Name, Whole | Number], Len(0, 64), AfterValidator(_percent)]
Settings = Annotated[dict[Name, JsonValue], Len(0, 200), AfterValidator(_short)]


class Spec(TypedDict):
    """See `aiqvit.harness.identity.spec.RunSpec`; `code` stood for `version` in records of before."""

    __pydantic_config__ = MORE
    task: Name
    model: Name
    weights: Name
    data: Name
    method: Name
    settings: Settings
    preset: Name
    bits: Annotated[str, StringConstraints(pattern="^[0-9]{1,2}/[0-9]{1,2}$")]
    seed: Annotated[int, Interval(ge=0, lt=2**32)]
    limit: Annotated[int, Interval(ge=1, le=10**15)] | None
    device: Name
    threads: Count
    version: NotRequired[Name]
    code: NotRequired[Name]
    train: NotRequired[Name]
    calibration: NotRequired[Name]


class Sites(TypedDict):
    """A row of the scheme card: sites that are quantized alike."""

    role: Name
    kind: Literal["weight", "activation"]
    quantizer: Name
    bits: Annotated[int, Interval(ge=1, le=32)]
    granularity: Name
    note: Text
    sites: Count


class Unit(TypedDict):
    """What a method logged of a unit; only these are drawn, all else is shown as it is."""

    __pydantic_config__ = MORE
    unit: NotRequired[Text]
    loss_before: NotRequired[Number]
    loss_after: NotRequired[Number]
    kept: NotRequired[bool]
    b1: NotRequired[list[Number]]
    b2: NotRequired[list[Number]]


class Covered(TypedDict, total=False):
    """See `aiqvit.interfaces.Coverage`."""

    __pydantic_config__ = MORE
    macs: Count
    quantized: Share
    one_operand: Share
    declared: Share
    missed: Share
    first: Text


class Git(TypedDict):
    """Of the checkout that the source lay in."""

    commit: Name
    dirty: bool


class Manifest(TypedDict, total=False):
    """Where and with what a run was made."""

    __pydantic_config__ = MORE
    started: Annotated[str, StringConstraints(pattern=r"^[0-9T:.+Z-]{10,40}$")]
    python: Name
    packages: Annotated[dict[Name, Name], Len(0, 200)]
    git: Git | None
    device: Name
    source: Name | None


class Data(TypedDict, total=False):
    """What the task says of its samples."""

    __pydantic_config__ = MORE
    train: Count
    val: Count
    skipped: list[Text]
    why: Text
    notes: Annotated[list[Text], Len(0, 1_000)]


class Error(TypedDict):
    """Why a run failed."""

    type: Name
    message: Long
    traceback: Long


class Schema(TypedDict):
    """A record."""

    __pydantic_config__ = MORE
    format: NotRequired[Literal[2]]
    checksum: NotRequired[Digest]
    id: Name
    status: Literal["done", "failed"]
    spec: Spec
    defaults: NotRequired[Settings]  # the settings that the method had by itself
    label: NotRequired[Name]  # what records of before have in their place, typed
    metrics: Metrics
    fp32: Metrics | None
    calibration_images: Count
    range_images: NotRequired[Count]
    coverage: NotRequired[Covered]
    times: Annotated[dict[Name, Amount], Len(0, 64)]
    outcomes: NotRequired[Digest]  # SHA-256 of the file of outcomes beside it
    peak_mib: NotRequired[Annotated[dict[Name, Amount], Len(0, 64)]]
    log: Annotated[list[Unit], Len(0, 5_000)]
    scheme: Annotated[list[Sites], Len(0, 2_000)]
    rewritten: NotRequired[Annotated[list[Text], Len(0, 100)]]  # what was done to the model before quantization
    manifest: Manifest
    data: Data
    error: NotRequired[Error]


def checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record of plain values, without its own checksum."""
    rest = {key: value for key, value in record.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
