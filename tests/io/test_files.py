"""Regular files only, up to a bound, written whole."""

import os
from pathlib import Path

import pytest

from aiqvit.interfaces import UserError
from aiqvit.io.files import check_place, opened, own_folder, read_bytes, write_bytes
from aiqvit.io.limits import LIMITS, check, limit, variable


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


def test_a_place_that_a_pipe_has_is_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(UserError, match=f"cannot write .*{name}': it is a device, a pipe or a socket"):
            check_place(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo() and sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_device_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_char_device", lambda path: path.name == "null")
    (tmp_path / "null").touch()
    with pytest.raises(UserError, match="null': it is a device"):
        write_bytes(tmp_path / "null", b"new")
    assert (tmp_path / "null").read_bytes() == b""


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_fine(tmp_path):
    (tmp_path / "out" / "big").mkdir(parents=True)
    (tmp_path / "out" / "inside").symlink_to(tmp_path / "out" / "big")
    (tmp_path / "out" / "tables").symlink_to(tmp_path)
    assert own_folder(tmp_path / "out", "inside").is_dir() and not own_folder(tmp_path / "out", "new").exists()
    with pytest.raises(UserError, match="tables' is a link out of"):
        own_folder(tmp_path / "out", "tables")


def test_reading_asks_for_no_more_memory_than_there_is_to_read(tmp_path, monkeypatch):
    monkeypatch.setenv(variable("text_mib"), "999999999")  # a petabyte
    (tmp_path / "a").write_bytes(b"x")
    assert read_bytes(tmp_path / "a") == b"x"


def test_a_wrong_bound_is_told_before_it_is_taken_for_a_fault_of_files(tmp_path, monkeypatch, capsys):
    from aiqvit.bench import main

    monkeypatch.setenv(variable("text_mib"), "0")
    with pytest.raises(UserError, match="expected a whole number above 0"):
        check()
    assert main(["--list"]) == 2 and "AIQVIT_MAX_TEXT_MIB='0'" in capsys.readouterr().err
