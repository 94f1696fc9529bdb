"""Lists, tables and points that nobody wrote in good faith end in one sentence, at once."""

import json
import os
import zlib

import numpy as np
import pytest
from aiqvit.tasks import flat, point_files
from aiqvit.tasks.classes import read_list
from aiqvit.tasks.layout import find
from aiqvit.tasks.modelnet40 import ModelNet40
from aiqvit.tasks.shapenetpart import ShapeNetPart
from aiqvit.tasks.texts import expanded, located

from aiqvit.interfaces import UserError
from aiqvit.io.limits import variable

pytestmark = pytest.mark.usefixtures("small_shapes")
HOSTILE = ("x" * 5000, "~nosuchuser/x", "a\0b", "\x1b]0;x\x07", "..", "/dev/zero", "/", "\ud800", "9" * 5000)


def refused(call, message="", *arguments):
    with pytest.raises(UserError, match=message or ".") as caught:
        call(*arguments)
    assert len(str(caught.value)) < 7000
    return str(caught.value)


@pytest.mark.parametrize("entry", HOSTILE)
@pytest.mark.parametrize("kind", ["modelnet", "shapenet", "flat", "classes"])
def test_names_in_lists(request, tmp_path, entry, kind):
    text = entry.encode("utf-8", "surrogatepass")
    if kind == "modelnet":
        root = request.getfixturevalue("modelnet")
        (root / "modelnet40_test.txt").write_bytes(b"xbox/" + text + b"\n")
        refused(ModelNet40, "", str(root))
    elif kind == "shapenet":
        root = request.getfixturevalue("shapenet")
        (root / "train_test_split" / "shuffled_test_file_list.json").write_text(json.dumps([f"x/02773838/{entry}"]))
        refused(ShapeNetPart, "", str(root))
    elif kind == "flat":
        (tmp_path / flat.TRUTH).write_bytes(text + b"\n")
        (tmp_path / "map_clsloc.txt").write_text("n00000001 1 a\n")
        refused(flat.answers, "", [tmp_path])
    else:
        (tmp_path / "classes.txt").write_bytes(text + b"\n" + text + b"\n")
        refused(read_list, "", tmp_path / "classes.txt")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_folders_that_cannot_be(name):
    for call in (find, ModelNet40, ShapeNetPart, expanded, lambda path: located(path, expanded("."))):
        refused(call, "no file or folder can be called", name)


def test_homes_of_nobody():
    for call in (find, ModelNet40, ShapeNetPart):
        refused(call, "does not exist", "~nosuchuser/data")


def test_lists_that_are_no_files(modelnet):
    for name in ("modelnet40_test.txt", "modelnet40_shape_names.txt"):
        (modelnet / name).rename(modelnet / "kept")
        os.mkfifo(modelnet / name)
        refused(ModelNet40, "no file", str(modelnet))
        (modelnet / name).unlink()
        (modelnet / "kept").rename(modelnet / name)
    path = modelnet / "xbox" / "xbox_0004.txt"
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(ModelNet40, "there is no file", str(modelnet))


def test_lists_beyond_the_limit(modelnet, monkeypatch):
    monkeypatch.setenv(variable("text_mib"), "1")
    (modelnet / "modelnet40_test.txt").write_text("xbox_0004\n" * 200_000)
    refused(ModelNet40, "larger than 1 MiB .AIQVIT_MAX_TEXT_MIB", str(modelnet))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[1]", "NaN", "\ud800"])
def test_nested_lists(shapenet, text):
    path = shapenet / "train_test_split" / "shuffled_test_file_list.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    refused(ShapeNetPart, "shuffled_test_file_list.json", str(shapenet))


@pytest.mark.parametrize(("content", "message"), [
    ("1,2,3\n" + "1," * 6000 + "1\n", "line 2 is longer than 10000 characters"), ("\n" * 2_000_001, "2000000 lines"),
    ("1e400,2,3\n", "'1e400' is not a finite number"), ("1,2,3\n1,nan,3\n", "line 2: 'nan' is not"),
    ("1,2,3\n1,2,1e39999\n", "line 2: '1e39999'"), ("1,2,3\n1,2," + "9" * 5000 + "\n", "is not a finite number")])
def test_points_that_are_none(tmp_path, content, message):
    (tmp_path / "a.txt").write_text(content)
    refused(point_files.parse, message, tmp_path / "a.txt", (3, 6))


# HDF5 and MATLAB


def outside(file, path):
    import h5py

    file.pop("data")
    file["data"] = h5py.ExternalLink(str(path), "data")


def virtual(file, path):
    import h5py

    file.pop("data")
    layout = h5py.VirtualLayout((2, 30, 3), "f4")
    layout[:] = h5py.VirtualSource(str(path), "data", (2, 30, 3))
    file.create_virtual_dataset("data", layout)


def elsewhere(file, path):
    file.pop("data")
    file.create_dataset("data", (2, 30, 3), "f4", external=[(str(path), 0, 720)])


def endless(file, path):
    file.pop("data"), file.pop("label")
    file.create_dataset("data", (10**9, 10**6, 3), "f4", chunks=(1, 1, 3))
    file.create_dataset("label", (10**9,), "u1", chunks=(1,))


def pieces(file, path):
    file.pop("data")
    file.create_dataset("data", (2, 30, 3), "f4", chunks=(10**4, 10**4, 3), maxshape=(None, None, 3))


def texts(file, path):
    file.pop("data")
    file["data"] = np.full((2, 30, 3), b"x")


@pytest.mark.parametrize(("edit", "message"), [
    (outside, "not an array of numbers in this file"), (virtual, "in this file"), (elsewhere, "in this file"),
    (endless, "at most 100000 shapes and points"), (pieces, "in pieces above 256 MiB"), (texts, "array of numbers")])
def test_hdf5_that_is_elsewhere_or_endless(tmp_path, edit, message):
    h5py = pytest.importorskip("h5py")
    for name in ("a.h5", "other.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"], file["label"] = np.ones((2, 30, 3), "f4"), np.zeros(2, "u1")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        edit(file, tmp_path / "other.h5")
    (tmp_path / "shape_names.txt").write_text("chair\n")
    for part in ("train", "test"):
        (tmp_path / f"{part}_files.txt").write_text("a.h5\n")
    refused(ModelNet40, message, str(tmp_path))


def test_a_library_that_crashes_costs_its_file_only(tmp_path, monkeypatch):
    pytest.importorskip("scipy")
    cell = np.array([6, 8, 1, 0, 5, 8, 1, 1, 1, 0], "<u4").tobytes()
    head = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
    deep = head + (np.array([14, 64], "<u4").tobytes() + cell) * 150_000
    packed = zlib.compress(bytes(5 * 10**9 // 100))
    for content in (deep, head + np.array([15, len(packed)], "<u4").tobytes() + packed, b"", head):
        (tmp_path / "meta.mat").write_bytes(content)
        refused(flat._map, "is not the devkit's meta.mat", tmp_path / "meta.mat")


# Lists beyond what any data set has, and entries that would count twice


def test_more_lines_than_any_list_has(modelnet, tmp_path):
    (modelnet / "modelnet40_train.txt").write_text("a\n" * 200_001)
    refused(ModelNet40, "train.txt' has more than 200000 lines: expected a shape", str(modelnet))
    (modelnet / "modelnet40_shape_names.txt").write_text("\x85".join(map(str, range(100_002))), "utf-8")
    refused(ModelNet40, "names.txt' has more than 100000 lines", str(modelnet))
    (tmp_path / "classes.txt").write_text("\n" * 100_001)
    refused(read_list, "classes.txt' has more than 100000 lines", tmp_path / "classes.txt")
    (tmp_path / flat.TRUTH).write_text("\n" * 2_000_001)
    refused(flat.answers, "has more than 2000000 lines", [tmp_path])
    (tmp_path / flat.TABLE).write_text("\n" * 2_000_001)
    refused(flat.answers, "has more than 2000000 lines", [tmp_path])


def test_more_entries_than_any_list_has(shapenet):
    path = shapenet / "train_test_split" / "shuffled_train_file_list.json"
    for text in ('"1/b",' * 200_001 + '"1/b"', "[]," * 200_001 + "[]"):
        path.write_text(f"[{text}]")
        refused(ShapeNetPart, "train_file_list.json' has more than 200000 entries", str(shapenet))


def test_lines_of_a_table(tmp_path):
    path = tmp_path / flat.TABLE
    lines = ["ImageId,PredictionString", "", 'a,"n00000001 1 2 3 4"', "b,n00000002 " + "1 2 3 4 " * 1000]
    path.write_text("\n".join(lines))
    assert flat.answers([tmp_path])[0] == {"a": "n00000001", "b": "n00000002"}
    path.write_text("\n".join([*lines, "c," + "," * 10_000]))
    refused(flat.answers, "line 5 is longer than 10000 characters", [tmp_path])
    path.write_text("\n".join([*lines, 'c,"n00000001', '1 2"']))
    refused(flat.answers, "line 6: expected a picture, a comma and its class", [tmp_path])
    path.write_text("")
    refused(flat.answers, "expected a first line with the columns", [tmp_path])


def test_shapes_that_are_listed_twice(modelnet, shapenet):
    path = modelnet / "modelnet40_test.txt"
    path.write_text("xbox_0004\nxbox_0005\nxbox/xbox_0004.txt\n")
    refused(ModelNet40, "test.txt' names 'xbox/xbox_0004.txt' twice: it would count twice", str(modelnet))
    path = shapenet / "train_test_split" / "shuffled_val_file_list.json"
    path.write_text(json.dumps(["shape_data/02773838/shape3", "x/02773838/shape3.txt"]))
    refused(ShapeNetPart, "val_file_list.json' names 'x/02773838/shape3.txt' twice", str(shapenet))
