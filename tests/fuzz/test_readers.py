"""No file makes a reader raise, hang, take the machine's memory, run code, or believe what nobody wrote.

Every reader gets changed copies of a good file, the same ones each time. `AIQVIT_FUZZ=5000` tries that many of each.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import changed_bytes, changed_json
from tests.fuzz.readers import READERS, outcome

COUNT = int(os.environ.get("AIQVIT_FUZZ", "40"))
SECONDS = 20  # for one file
MEMORY = 2 * 2**20  # KiB that the peak of this process may rise by


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Raises where it takes too long, or too much memory."""
    def late(*_):
        raise AssertionError(f"it took longer than {SECONDS} s")

    before, old = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


@pytest.fixture
def fresh(tmp_path_factory, monkeypatch):
    """A folder of the test's own, a cache too."""
    folder = tmp_path_factory.mktemp("fuzz")
    monkeypatch.setenv("AIQVIT_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    return folder


PROGRAM = subprocess.Popen


def started(command, *arguments, **options):
    """What stands for starting a program; only this interpreter may be, isolated, for readers in C."""
    assert command[:2] == [sys.executable, "-I"], f"a program was started: {command}"
    return PROGRAM(command, *arguments, **options)


@pytest.mark.parametrize("name", READERS)
def test_changed_files(name, fresh, monkeypatch, capsys):
    reader = READERS[name]
    if name == "hdf5":
        pytest.importorskip("h5py")
    if name == "annotations":
        pytest.importorskip("pycocotools")
    path = reader.make(fresh)
    content, good = path.read_bytes(), outcome(reader, path)
    assert good is not None or reader.read(path) is None  # the good file is read
    monkeypatch.setattr("subprocess.Popen", started)
    monkeypatch.setattr("os.system", None)

    count = COUNT if name != "hdf5" else max(COUNT // 20, 4)  # each starts a process

    @settings(max_examples=count, deadline=None, database=None, derandomize=True,
              suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, 2**64))
    def check(seed):
        draw = Random(seed)
        if reader.structured and draw.random() < 0.5:
            path.write_bytes(changed_json(json.loads(content), draw))
        else:
            path.write_bytes(changed_bytes(content, draw))
        with watched():
            found = outcome(reader, path)
        if reader.exact:
            assert found is None or found == good

    check()
    assert "Traceback" not in capsys.readouterr().err
