"""Freed memory is used again."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from aiqvit.harness.run.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
import torch
def work():
    for _ in range(20):
        a = torch.ones(12_000_000)  # 48 MB, above what glibc keeps by itself
        b = a * 2
before = work(), work(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(work() or resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the settings")
def test_freed_memory_is_used_again_without_page_faults():
    faults = {}
    for case in ("default", "kept"):
        command = [sys.executable, "-c", FAULTS, case]
        faults[case] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert faults["kept"] < faults["default"] / 10
