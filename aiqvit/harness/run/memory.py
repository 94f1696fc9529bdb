"""Memory of the process: its peak, and how the C library keeps what was freed."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

import torch

# glibc's mallopt: blocks up to this size come from the heap, which is given back when this much of its end is free
_KEPT = {-3: 256 * 2**20, -1: 512 * 2**20}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, in bytes


def keep_freed_memory() -> None:
    """Let freed tensors be used again instead of mapped anew, which costs a page fault for every 4 KiB.

    With the defaults a forward pass of a quantized DeiT-Tiny spent a quarter of its time on that. Only glibc has the
    settings; elsewhere nothing is changed.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _KEPT.items():
            mallopt(option, value)


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
