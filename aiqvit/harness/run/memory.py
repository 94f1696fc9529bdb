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


class PeakMemory:
    """The peak of a run, and of each of its parts."""

    def __init__(self, device: str) -> None:
        reset_peak(device)
        self.device, self.most = device, {"rss_before": round(_status("VmRSS:") / 2**20, 1)}

    def lap(self) -> float:
        """The peak in MiB, of the GPU where there is one, since this was asked last or since the beginning."""
        now = peak(self.device)
        self.most |= {name: max(value, self.most.get(name, 0.0)) for name, value in now.items()}
        reset_peak(self.device)
        return now.get("gpu", now["rss"])

    def total(self) -> dict[str, float]:
        """As `peak` of all of the run, and `rss_before`: what the process had when the run began (0: not known)."""
        self.lap()
        return self.most


def _status(name: str) -> int:
    """A line of what Linux says of the process, in bytes; 0 elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


def _peak_rss() -> int:
    if known := _status("VmHWM:"):
        return known
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
