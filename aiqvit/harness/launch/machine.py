"""What this machine has for runs side by side: cores and memory that this process may use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

A_RUN = 5 * 2**30  # bytes that a run may need: of those measured GLF-Q on DeiT-Tiny, 512 images, had most, 4.8 GiB
MEMINFO, LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """Bytes that new processes can take without swapping, at most what a container allows; None: not known."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        line = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        found.append(int(LIMIT.read_text()))
    return min(found, default=None)


def side_by_side() -> int:
    """Runs of one thread each that cores and memory allow at once; at least 1."""
    free = memory()
    return max(cores() if free is None else min(cores(), free // A_RUN), 1)
