"""The machine that something was timed on: what its processor has for integers, and versions of what ran."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from aiqvit.io.versions import installed

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8",  # x86
         "asimd", "asimddp", "i8mm", "sve")  # ARM
PACKAGES = ("onnxruntime", "openvino", "torch")


def cpu_flags(table: str | Path = "/proc/cpuinfo") -> tuple[str, ...]:
    """Instruction sets that integer products use, of those that the system lists; empty where it lists none."""
    try:
        text = Path(table).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.M)
    return tuple(flag for flag in FLAGS if flag in (found[1].split() if found else ()))


def describe() -> str:
    """One line: processor, its flags, cores, versions."""
    flags = ", ".join(cpu_flags()) or "instruction sets not listed by this system"
    return (f"{platform.machine()} with {os.cpu_count()} cores ({flags}); "
            + ", ".join(f"{name} {number}" for name, number in installed(PACKAGES).items()))
