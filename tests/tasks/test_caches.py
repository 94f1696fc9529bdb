"""What is read from the cache is checked, and a cache that cannot be used costs time only."""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from aiqvit.tasks import cache, content, memory, point_cache
from aiqvit.tasks.point_cache import kept_rows
from safetensors.numpy import load, save

from aiqvit.interfaces import UserError

ROWS = np.arange(27, dtype=np.float32).reshape(9, 3)
AS_NOBODY = ["/nosuch/place", "~nosuchuser/x", "/dev/null/x", "/proc/x"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The cache is a folder of the test, and files may be young."""
    monkeypatch.setenv("AIQVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "YOUNG", -(10**18))
    monkeypatch.setattr(content, "_seen", {})
    monkeypatch.setattr(memory, "_given_up", set())
    monkeypatch.setattr(cache, "_spare", [])
    return tmp_path / "cache"


@pytest.fixture
def points(here, tmp_path):
    """Read five rows of a shape; returns them and how often the shape itself was read."""
    file, calls = tmp_path / "shape.txt", []
    file.write_text("1,2,3\n")

    def get():
        return kept_rows(file, ["text"], lambda: calls.append(1) or ROWS, 5, (3, 6)), len(calls)

    return get


def arrays(edit):
    return lambda old: save(edit(load(old)))


DAMAGES = {
    "empty": lambda old: b"", "cut": lambda old: old[:-1], "text": lambda old: b"no points " * 30,
    "a bit": lambda old: old[:-30] + bytes([old[-30] ^ 1]) + old[-29:], "longer": lambda old: old + b"x",
    "giant": lambda old: (2**40).to_bytes(8, "little") + old[8:],
    "other rows": arrays(lambda parts: {**parts, "rows": np.full((5, 3), 7, np.float32)}),
    "other total": arrays(lambda parts: {**parts, "total": np.array([3])}),
    "two totals": arrays(lambda parts: {**parts, "total": np.array([9, 9])}),
    "no check": arrays(lambda parts: {"rows": parts["rows"], "total": parts["total"]}),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_points_are_read_and_written_anew(points, here, name):
    want, _ = points()
    (path,) = (here / "points").iterdir()
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[name](whole))
    found, calls = points()
    assert np.array_equal(found.rows, want.rows) and found.total == 9 and calls == 2
    assert path.read_bytes() == whole and points()[1] == 2


@pytest.mark.parametrize("made", [(np.full((5, 3), np.nan, np.float32), 9), (ROWS[:4], 9),
                                  (np.ones((5, 2), np.float32), 9), (np.ones((5, 3)), 9)])
def test_points_that_no_reader_makes_are_not_believed(points, here, made):
    points()
    (path,) = (here / "points").iterdir()
    key = content.combined([point_cache.FORMAT, 5, content.digest(here.parent / "shape.txt"), "text"])
    found = point_cache.Sampled(*made)
    path.write_bytes(save({"rows": found.rows, "total": np.array([9]), "check": point_cache._check(key, found)}))
    assert points()[1] == 2


def test_special_files_in_the_place_of_points(points, here):
    points()
    (path,) = (here / "points").iterdir()
    path.unlink()
    os.mkfifo(path)
    assert points()[1] == 2 and points()[1] == 2 and path.is_file()
    path.unlink()
    path.mkdir()
    assert points()[1] == 3


def test_points_of_a_file_that_changes_are_not_kept(here, tmp_path):
    file = tmp_path / "shape.txt"
    file.write_text("1,2,3\n")
    kept_rows(file, [], lambda: file.write_text("4,5,6\n") and ROWS, 5, (3,))
    assert not (here / "points").exists()


def forged(base):
    with sqlite3.connect(base) as connection:
        connection.execute("UPDATE contents SET digest = ?", ("0" * 64,))


def endless(base):
    base.unlink()
    with sqlite3.connect(base) as connection:
        connection.execute("CREATE VIEW contents AS WITH RECURSIVE a(path, stamp, digest, checksum) AS (SELECT 1,1,1,1 "
                           "UNION ALL SELECT path + 1, 1, 1, 1 FROM a) SELECT * FROM a")


def pipe(base):
    base.unlink()
    os.mkfifo(base)


@pytest.mark.parametrize("damage", [forged, endless, pipe, lambda base: base.write_bytes(b"no data base" * 99),
                                    lambda base: base.write_bytes(base.read_bytes()[:5000])])
def test_digests_of_a_changed_data_base_are_not_believed(here, tmp_path, damage, monkeypatch):
    file = tmp_path / "a"
    file.write_text("one")
    want = hashlib.sha256(b"one").hexdigest()
    assert content.digest(file) == want
    damage(here / memory.NAME)
    for _ in range(2):
        monkeypatch.setattr(content, "_seen", {})
        assert content.digest(file) == want
    monkeypatch.setattr(content, "_read_one", lambda name: ("", "not asked"))
    monkeypatch.setattr(content, "_seen", {})
    assert content.digest(file) == want  # replaced by a whole one


def test_a_locked_data_base_is_waited_for_once(here, tmp_path, monkeypatch):
    (tmp_path / "a").write_text("one")
    content.digest(tmp_path / "a")
    monkeypatch.setattr(memory, "WAIT", 0.1)
    monkeypatch.setattr(content, "_seen", {})
    with sqlite3.connect(here / memory.NAME) as base:
        base.execute("BEGIN EXCLUSIVE")
        assert content.digest(tmp_path / "a") == hashlib.sha256(b"one").hexdigest()
        assert memory._given_up == {here / memory.NAME}
        base.rollback()


# the embedded data


def write(root):
    for name in ("a/1", "a/2", "b/1"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def whole(root):
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*")
            if path.is_file() and path.name != cache.SEAL}


EDITS = {
    "missing": lambda root: (root / "a/1").unlink(), "changed": lambda root: (root / "a/1").write_text("a/2"),
    "extra": lambda root: (root / "a/3").write_text("x"), "no seal": lambda root: (root / ".sha256").unlink(),
    "other seal": lambda root: (root / ".sha256").write_text("0" * 64), "gone": shutil.rmtree,
    "a pipe": lambda root: ((root / "a/1").unlink(), os.mkfifo(root / "a/1")),
    "a file": lambda root: (shutil.rmtree(root), root.write_text("x")),
    "a link": lambda root: (shutil.rmtree(root), root.symlink_to("/nowhere")),
}


def shown(folder):
    """What is in a folder, without locks."""
    return [name for name in os.listdir(folder) if name[0] != "."]


@pytest.mark.parametrize("edit", EDITS)
def test_embedded_data_that_was_changed_is_made_anew(here, edit):
    root = cache.folder_once("x", write)
    want = whole(root)
    EDITS[edit](root)
    assert whole(cache.folder_once("x", write)) == want == {n: n for n in ("a/1", "a/2", "b/1")}
    assert shown(here) == ["x"]
    cache.folder_once("x", lambda _: pytest.fail("made again"))


def test_two_at_once_are_safe(here):
    root = cache.folder_once("x", write)
    (root / "a/1").write_text("damaged")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cache.folder_once("x", write), range(16)))
    assert set(found) == {root} and len(whole(root)) == 3
    assert shown(here) == ["x"]


def full(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("place", [*AS_NOBODY, "file"])
def test_embedded_data_without_a_cache_is_in_a_temporary_folder(here, tmp_path, monkeypatch, capsys, place):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("AIQVIT_CACHE", str(tmp_path / "file") if place == "file" else place)
    real = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", lambda self, *rest, **options: full(self) if str(self).startswith("/nosuch")
                        else real(self, *rest, **options))
    root = cache.folder_once("x", write)
    assert len(whole(root)) == 3 and cache.folder_once("x", write) == root
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "a temporary folder takes its place: set AIQVIT_CACHE" in said
    cache._spare.clear()
    assert not root.exists()


def test_without_a_temporary_folder_either_it_is_one_sentence(here, monkeypatch):
    monkeypatch.setattr(cache.tempfile, "TemporaryDirectory", full)
    with pytest.raises(UserError, match="neither to the cache .No space left on device. nor to a temporary folder"):
        cache.folder_once("x", write)


@pytest.mark.parametrize("place", AS_NOBODY)
def test_points_and_digests_do_without_a_cache(points, monkeypatch, place):
    monkeypatch.setenv("AIQVIT_CACHE", place)
    monkeypatch.setattr(cache.Path, "mkdir", full)
    assert points()[1] == 1 and points()[1] == 2


def test_no_home_and_no_name():
    """Somebody whom the system does not know, as in containers."""
    code = ("import os, pathlib, tempfile\n"
            "def nobody(): raise RuntimeError('Could not determine home directory.')\n"
            "pathlib.Path.home = nobody\n"
            "from aiqvit.tasks import cache\n"
            "print(cache.folder_once('x', lambda root: root.mkdir()).is_dir())")
    env = {key: value for key, value in os.environ.items() if key not in ("HOME", "AIQVIT_CACHE")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n" and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
