"""One process at a run, whatever became of the one before."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
import time

import pytest

from aiqvit.harness.store import locks
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


@pytest.fixture
def flock(monkeypatch):
    """Locking a file ends in an error of this number."""
    def fail(number: int) -> None:
        def acquire(*_, **__):
            raise OSError(number, os.strerror(number)) if number else NotImplementedError("no flock")

        monkeypatch.setattr("aiqvit.harness.store.locks.FileLock.acquire", acquire)

    locks._unprotected.cache_clear()
    yield fail
    locks._unprotected.cache_clear()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 0])
def test_without_locks_the_work_goes_on_unprotected_and_this_is_said_once(number, flock, tmp_path, capsys):
    flock(number)
    for run in ("a", "b"):
        with claimed(tmp_path / f"{run}.lock", wait=False) as mine:
            assert mine
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "has no locks: runs are not protected against a second process" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.EACCES])
def test_a_lock_that_cannot_be_written_is_one_sentence(number, flock, tmp_path):
    flock(number)
    with pytest.raises(UserError, match="cannot write '.*run.lock'"), claimed(tmp_path / "run.lock", wait=False):
        pass


def test_a_disk_that_is_full_behind_the_lock_costs_the_name_of_the_owner_only(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    monkeypatch.setattr("pathlib.Path.unlink", full)
    with claimed(tmp_path / "run.lock", wait=False) as mine:
        assert mine


@pytest.mark.parametrize("what", ["empty", "text", "folder"])
def test_what_already_has_the_name_of_the_lock(what, tmp_path):
    path = tmp_path / "run.lock"
    if what == "folder":
        path.mkdir()
        with pytest.raises(UserError, match="cannot write"), claimed(path, wait=False):
            pass
        return
    path.write_text("" if what == "empty" else "123 elsewhere")
    with claimed(path, wait=False) as mine:
        assert mine
    assert not path.exists()


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "partial").write_text("a file")
    with pytest.raises(UserError, match="cannot write"), claimed(tmp_path / "partial" / "run.lock", wait=False):
        pass


@pytest.mark.parametrize("make", [lambda path, other: os.symlink(other, path), lambda path, _: os.mkfifo(path)],
                         ids=["link", "pipe"])
def test_what_stands_in_place_of_the_owner_is_replaced_not_followed(tmp_path, make):
    (tmp_path / "outside").write_text("mine")
    make(tmp_path / "run.lock.owner", tmp_path / "outside")
    with claimed(tmp_path / "run.lock", wait=False) as mine:
        assert mine and "process" in (tmp_path / "run.lock.owner").read_text()
    assert (tmp_path / "outside").read_text() == "mine"


def test_a_folder_that_is_removed_while_one_waits_is_made_again(tmp_path, monkeypatch):
    path, real, gone = tmp_path / "partial" / "run.lock", locks.FileLock.acquire, []

    def acquire(self, *rest, **options):
        if len(gone) < 2:
            gone.append(path.parent.rmdir())
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return real(self, *rest, **options)

    monkeypatch.setattr(locks.FileLock, "acquire", acquire)
    with claimed(path, wait=False) as mine:
        assert mine and path.exists() and len(gone) == 2
