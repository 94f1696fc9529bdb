"""Latency of any number of ONNX files, side by side: rounds in turn, so that all see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from torch import Tensor

from aiqvit.deploy.proof.engines import Engine, openvino, ort
from aiqvit.deploy.proof.machine import describe
from aiqvit.deploy.proof.runtime import plain

WHILE = 0.2  # seconds that each file has in a round, at least twice: the least counts, others share the machine


@dataclass(frozen=True)
class Timing:
    """One file at one batch size and number of threads."""

    name: str
    batch: int
    threads: int
    seconds: float  # of one batch, median over rounds
    ratio: float  # how many times as fast as the first file, median over rounds of the ratio within the round


@dataclass(frozen=True)
class Latency:
    """Timings of all files and what they were measured on."""

    timings: tuple[Timing, ...]
    rounds: int
    machine: str

    def ratio(self, name: str, batch: int, threads: int = 1) -> float:
        """How many times as fast as the first file."""
        return next(t.ratio for t in self.timings if (t.name, t.batch, t.threads) == (name, batch, threads))

    def __str__(self) -> str:
        lines = []
        for batch, threads in dict.fromkeys((t.batch, t.threads) for t in self.timings):
            parts = [f"{t.name} {t.seconds * 1e3:.1f} ms ({t.ratio:.2f} x)" for t in self.timings
                     if (t.batch, t.threads) == (batch, threads)]
            lines.append(f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}: {', '.join(parts)}")
        return "\n".join([*lines, self.conditions])

    @property
    def conditions(self) -> str:
        """How and on what it was measured, as a sentence."""
        return (f"Medians of {self.rounds} rounds in turn, of the least of several times and of the ratios (x) within "
                f"a round; waiting threads do not spin; {self.machine}")


def measure(files: Mapping[str, Path], images: Tensor, *, batches: Sequence[int] = (1, 8),
            threads: Sequence[int] = (1,), rounds: int = 9, engines: Mapping[str, str] | None = None,
            progress: Callable[..., Iterable] = plain) -> Latency:
    """Time every file on the same images (B, 3, H, W); the first is what the others are compared with.

    `engines` says which files run in "openvino" instead of onnxruntime, by their names. A batch larger than `images`
    repeats them. Raises `UserError` for a file that cannot be loaded.
    """
    makers = {name: openvino if (engines or {}).get(name) == "openvino" else ort for name in files}
    timings = []
    for count in threads:
        loaded = {name: makers[name](path, count) for name, path in files.items()}
        for batch in batches:
            repeated = images.repeat(-(-batch // len(images)), *[1] * (images.dim() - 1))[:batch]
            seconds = _rounds(loaded, repeated, rounds, progress, f"batch {batch}, {count} thread{'s' * (count > 1)}")
            timings += _timings(seconds, batch, count)
    return Latency(tuple(timings), rounds, describe())


def _rounds(loaded: Mapping[str, Engine], images: Tensor, rounds: int, progress: Callable[..., Iterable],
            title: str) -> dict[str, list[float]]:
    """Seconds of each file, round by round."""
    data = images.detach().cpu().numpy()
    for work in loaded.values():  # the first time, memory is laid out
        work(data)
    times = {name: max(2, int(WHILE / _seconds(work, data, 1))) for name, work in loaded.items()}
    seconds: dict[str, list[float]] = {name: [] for name in loaded}
    for _ in progress(range(rounds), title):
        for name, work in loaded.items():
            seconds[name].append(_seconds(work, data, times[name]))
    return seconds


def _seconds(work: Engine, data: object, times: int) -> float:
    """The least of so many times."""
    least = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        work(data)
        least = min(least, time.perf_counter() - start)
    return least


def _timings(seconds: Mapping[str, list[float]], batch: int, threads: int) -> list[Timing]:
    first = next(iter(seconds.values()))
    return [Timing(name, batch, threads, median(own), median(f / o for f, o in zip(first, own, strict=True)))
            for name, own in seconds.items()]
