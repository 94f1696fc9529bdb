"""Regular files only, up to a bound, written whole."""

import os

import pytest

from aiqvit.interfaces import UserError
from aiqvit.io.files import opened, read_bytes, write_bytes
from aiqvit.io.limits import LIMITS, limit, variable


def special(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe", "/dev/zero", folder


def test_only_regular_files_are_opened(tmp_path):
    for path in special(tmp_path):
        with pytest.raises(OSError, match="regular file|directory"):
            opened(path)


def test_a_file_beyond_the_bound(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(bytes(2**20 + 1))
    monkeypatch.setenv(variable("text_mib"), "1")
    with pytest.raises(OSError, match="larger than 1 MiB .AIQVIT_MAX_TEXT_MIB sets the limit"):
        read_bytes(tmp_path / "a")
    (tmp_path / "a").write_bytes(bytes(2**20))
    assert len(read_bytes(tmp_path / "a")) == 2**20


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "9" * 30, "٣"])
def test_bounds_that_are_no_number(monkeypatch, text):
    for name in LIMITS:
        monkeypatch.setenv(variable(name), text)
        with pytest.raises(UserError, match=variable(name)):
            limit(name)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left"):
        write_bytes(tmp_path / "a", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"old"
