"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import torch

from aiqvit import __version__
from aiqvit.io.versions import installed

PACKAGES = ("torch", "torchvision", "timm", "numpy", "safetensors", "pillow")


def manifest(device: str) -> dict[str, Any]:
    """Versions, git state of the package's own checkout, hardware, threads and the time now (UTC).

    `numerics` is what moves last digits between machines: torch, the processor's vector instructions, threads.
    """
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": versions(),
        "git": git_state(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "numerics": {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(),
                     "threads": torch.get_num_threads()},
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
    }


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on; one that is not installed is left out."""
    return {"aiqvit": __version__, **installed(PACKAGES)}


def git_state() -> dict[str, Any] | None:
    """`commit` and `dirty` of the checkout that this package lies in, wherever it is called from; None without git."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments],  # noqa: S603, S607 -- the git of the PATH, our words
                                  capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    return {"commit": commit, "dirty": bool(changes)} if commit else None


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
