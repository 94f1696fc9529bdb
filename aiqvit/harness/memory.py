"""Peak memory of a part of the process."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

import torch


def reset_peak(device: str) -> None:
    """Start measuring anew, where the system allows it (Linux); elsewhere the peak is that of the whole process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: str) -> dict[str, float]:
    """Peak resident memory `rss`, and `gpu` memory allocated, in MiB since `reset_peak`."""
    found = {"rss": round(_peak_rss() / 2**20, 1)}
    if device.startswith("cuda"):
        found["gpu"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return found


def _peak_rss() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
