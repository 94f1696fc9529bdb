"""Files are read once, again when they change, and never by a memory that cannot be used."""

import hashlib
import os
import sqlite3
import time

import pytest
from aiqvit.tasks import content


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Names of the files that are really read; the cache is the test's own and files may be young."""
    monkeypatch.setenv("AIQVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "YOUNG", -(10**18))
    monkeypatch.setattr(content, "_seen", {})
    names, real = [], content._read_one
    monkeypatch.setattr(content, "_read_one", lambda name: names.append(os.path.basename(name)) or real(name))
    return names


def forget(monkeypatch):
    """As in another process."""
    monkeypatch.setattr(content, "_seen", {})


def test_digests_are_of_the_content_in_order(tmp_path, read):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    expected = [hashlib.sha256(path.name.encode()).hexdigest() for path in paths]
    assert content.digests([*paths, paths[0]]) == [*expected, expected[0]] and sorted(read) == ["a", "b", "c"]
    assert content.digests([]) == [] and content.digest(tmp_path / "none") == content.NOBODY


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path, read, monkeypatch):
    path = tmp_path / "a"
    path.write_text("one")
    first = content.digest(path)
    forget(monkeypatch)
    assert content.digest(path) == first and read == ["a"]
    stat = path.stat()
    path.write_text("two")  # same size, and the same time of writing
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content.digest(path) == hashlib.sha256(b"two").hexdigest() and read == ["a", "a"]


def test_young_files_are_not_remembered(tmp_path, read, monkeypatch):
    monkeypatch.setattr(content, "YOUNG", 2 * 10**9)
    path = tmp_path / "a"
    path.write_text("one")
    os.utime(path, (0, 0))  # as copied with its old time; written now all the same
    assert content.digest(path) == content.digest(path) and read == ["a", "a"]
    later = time.time_ns() + 3 * 10**9
    monkeypatch.setattr(content.time, "time_ns", lambda: later)
    assert content.digest(path) == content.digest(path) and read == ["a", "a", "a"]


@pytest.mark.parametrize("damage", ("text", "folder", "table", "nonsense", "readonly"))
def test_a_memory_that_cannot_be_used_costs_time_only(tmp_path, read, monkeypatch, damage):
    cache = tmp_path / "cache"
    cache.mkdir()
    base = cache / "content.sqlite"
    if damage == "text":
        base.write_text("not a data base " * 100)
    elif damage == "folder":
        base.mkdir()
    elif damage == "readonly":
        cache.rmdir()
        cache.write_text("a file where the folder should be")
    else:
        with sqlite3.connect(base) as connection:
            columns = "path TEXT" if damage == "table" else "path TEXT PRIMARY KEY, stamp TEXT, digest TEXT"
            connection.execute(f"CREATE TABLE files ({columns})")
    path = tmp_path / "a"
    path.write_text("one")
    if damage == "nonsense":
        with sqlite3.connect(base) as connection:
            connection.execute("INSERT INTO files VALUES (?, ?, 7)", (str(path), content._stamp(str(path))))
    assert content.digest(path) == hashlib.sha256(b"one").hexdigest()
    forget(monkeypatch)
    assert content.digest(path) == hashlib.sha256(b"one").hexdigest()


def test_a_link_to_another_file_is_another_content(tmp_path, read):
    for name in "ab":
        (tmp_path / name).write_text(name)
    link = tmp_path / "link"
    link.symlink_to("a")
    first = content.digest(link)
    link.unlink()
    link.symlink_to("b")
    assert content.digest(link) != first


def test_combined_depends_on_order():
    assert content.combined(["a", "b"]) != content.combined(["b", "a"]) and content.combined([]) == ""
