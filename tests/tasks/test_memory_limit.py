"""A limit on memory, as batch systems set it, is one sentence."""

import subprocess
import sys

import pytest
import torch

CODE = """
import resource, sys, torch
from aiqvit.tasks.weights import read_checkpoint
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 50 * 2**20,) * 2)
try:
    read_checkpoint(sys.argv[1])
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux how much is in use")
@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_weights_that_do_not_fit_the_memory(tmp_path, options):
    torch.save({"a": torch.zeros(60_000_000)}, tmp_path / "a.pth", **options)
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path / "a.pth")], capture_output=True, text=True,
                          check=False)
    assert done.stderr == "" and "there is not enough memory for it" in done.stdout
