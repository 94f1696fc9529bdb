"""Times of the steps of training loops, taken where a method asks for its steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator

import torch

WARM = 3  # steps that do not count
LEAST = 5  # a loop of fewer steps trains nothing


class Clock:
    """A `Job.progress` that times every loop of steps: `laps` has each loop's name and the seconds of its steps."""

    def __init__(self, device: torch.device, deadline: float = float("inf")) -> None:
        self.device, self.deadline = device, deadline
        self.laps: list[tuple[str, list[float]]] = []

    def __call__(self, items: Iterable, text: str = "", total: int | None = None) -> Iterator:
        """Raises `TimeoutError` past the deadline, a moment of `time.perf_counter`."""
        self.laps.append((text, []))
        for item in items:
            start = time.perf_counter()
            yield item
            settle(self.device)
            self.laps[-1][1].append(time.perf_counter() - start)
            if time.perf_counter() > self.deadline:
                raise TimeoutError


def settle(device: torch.device) -> None:
    """Wait for what was asked of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median(seconds: list[float]) -> float:
    """Of the steps that count."""
    return statistics.median(seconds[WARM:] or seconds)


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of a piece of work."""
    clock = Clock(device)
    for _ in clock(range(WARM + repeats)):
        work()
    return median(clock.laps[0][1])
