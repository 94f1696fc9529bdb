"""One process at a run, whatever became of the one before."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest

from aiqvit.harness.store.locks import claimed
from aiqvit.interfaces import UserError


def hold(path, ready, seconds: float) -> None:
    with claimed(path, wait=False) as mine:
        ready.put(mine)
        time.sleep(seconds)


@pytest.fixture
def holder(tmp_path):
    """Another process holds the claim for a minute."""
    context = multiprocessing.get_context("forkserver")
    ready = context.Queue()
    process = context.Process(target=hold, args=(tmp_path / "partial" / "run.lock", ready, 60))
    process.start()
    assert ready.get()
    yield process
    process.kill()
    process.join()


def test_a_free_run_is_claimed_and_nothing_is_left(tmp_path):
    path = tmp_path / "partial" / "run.lock"
    with claimed(path, wait=False) as mine:
        assert mine and "process " in path.with_name("run.lock.owner").read_text()
    assert list(path.parent.iterdir()) == []


def test_a_held_run_is_left_alone_and_free_after_kill_9(holder, tmp_path):
    path = tmp_path / "partial" / "run.lock"
    with claimed(path, wait=False) as mine:
        assert not mine
    assert path.exists()
    holder.kill()
    holder.join()
    with claimed(path, wait=False) as mine:
        assert mine


def test_waiting_says_for_whom(holder, tmp_path, capsys):
    threading.Timer(0.3, holder.kill).start()
    with claimed(tmp_path / "partial" / "run.lock", wait=True) as mine:
        assert mine
    err = capsys.readouterr().err
    assert err.startswith(f"aiqvit: run: process {holder.pid} on ") and err.endswith("waiting for it\n")
    assert err.count("\n") == 1


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "partial").write_text("a file")
    with pytest.raises(UserError, match="cannot write"), claimed(tmp_path / "partial" / "run.lock", wait=False):
        pass
