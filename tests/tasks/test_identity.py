"""What a run reads is part of its identity by its content: changes give a new run, moving and touching do not."""

import json
import os
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from aiqvit.tasks.imagenet import ImageNet
from aiqvit.tasks.modelnet40 import ModelNet40
from aiqvit.tasks.shapenetpart import ShapeNetPart
from PIL import Image

from aiqvit.bench import main
from aiqvit.interfaces import UserError
from tests.conftest import MODEL
from tests.detection import small_coco


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AIQVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aiqvit.tasks.points.POINTS", 24)


@dataclass
class Case:
    """A folder, the task on it, a file that is evaluated and one that every draw of all samples has."""

    root: object
    open: object
    val: str
    train: str


@pytest.fixture(params=("imagenet", "modelnet40", "shapenetpart", "coco"))
def case(request, tmp_path, monkeypatch):
    if request.param == "coco":
        pytest.importorskip("mmdet")
        from aiqvit.tasks.coco import Coco
        from aiqvit.tasks.mini import coco as mini

        root = tmp_path / "coco"
        root.mkdir()

        def opened(folder):
            monkeypatch.setattr(mini, "prepare", lambda: folder)
            return Coco("mini")

        return Case(small_coco(root), opened, "val2017/000000000001.png", "train2017/000000000001.png")
    if request.param == "imagenet":
        root = shutil.copytree(request.getfixturevalue("imagenet"), tmp_path / "imagenet")
        return Case(root, lambda folder: ImageNet(str(folder)), "val/n01440764/0.JPEG", "train/n01440764/0.JPEG")
    if request.param == "modelnet40":
        return Case(request.getfixturevalue("modelnet"), lambda folder: ModelNet40(str(folder)),
                    "xbox/xbox_0004.txt", "xbox/xbox_0000.txt")
    return Case(request.getfixturevalue("shapenet"), lambda folder: ShapeNetPart(str(folder)),
                "02773838/shape4.txt", "02773838/shape0.txt")


def alter(path):
    """Other content of the same size and the same time of writing."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    at = next(i for i in range(len(content) // 2, len(content)) if path.suffix != ".txt" or chr(content[i]).isdigit())
    content[at] = ord("1") if content[at] != ord("1") else ord("2")
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def changed(case, edit, images=100, seed=0, limit=None):
    """Which parts of the identity differ after the edit."""
    before = case.open(case.root).identity(images, seed, limit)
    edit()
    after = case.open(case.root).identity(images, seed, limit)
    return [name for name in ("data", "train", "calibration") if getattr(before, name) != getattr(after, name)]


def test_moving_and_touching_change_nothing(case, tmp_path):
    before = case.open(case.root).identity(5, 1, 3)
    moved = shutil.move(case.root, tmp_path / "elsewhere")
    for path in moved.rglob("*.*"):
        os.utime(path)
    assert case.open(moved).identity(5, 1, 3) == before
    assert all(len(digest) == 64 for digest in (before.data, before.train, before.calibration))


def test_a_changed_sample_of_the_same_size_is_seen(case):
    assert changed(case, lambda: alter(case.root / case.val)) == ["data"]
    assert changed(case, lambda: alter(case.root / case.train)) == ["calibration"]


def test_only_what_is_used_counts(case):
    task = case.open(case.root)
    nothing, full = task.identity(0, 0, None), task.identity(3, 0, None)
    assert (nothing.train, nothing.calibration) == ("", "") and nothing.data == full.data
    assert task.identity(3, 1, None).calibration != full.calibration != task.identity(2, 0, None).calibration
    assert task.identity(3, 1, None).train == full.train and task.identity(3, 0, 2).data != full.data
    assert changed(case, lambda: alter(case.root / case.val), limit=None) == ["data"]
    assert changed(case, lambda: alter(case.root / case.train), images=0) == []


def test_a_training_list_that_grows_is_seen(imagenet, tmp_path):
    case = Case(shutil.copytree(imagenet, tmp_path / "copy"), lambda folder: ImageNet(str(folder)), "", "")
    new = case.root / "train" / "n01440764" / "zzz.JPEG"
    assert "train" in changed(case, lambda: Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(new), images=1)


def test_class_lists_and_annotations_count(modelnet, shapenet):
    names = modelnet / "modelnet40_shape_names.txt"
    lists = Case(modelnet, lambda folder: ModelNet40(str(folder)), "", "")
    assert "data" in changed(lists, lambda: names.write_text("\n".join(reversed(names.read_text().split()))))
    assert "data" in changed(lists, lambda: names.write_text(names.read_text() + "\nsofa"))
    synsets = shapenet / "synsetoffset2category.txt"
    parts = Case(shapenet, lambda folder: ShapeNetPart(str(folder)), "", "")
    swapped = "Bag\t03642806\nLaptop\t02773838\n"
    with pytest.raises(UserError, match="not one of its category Laptop"):  # said at once
        changed(parts, lambda: synsets.write_text(swapped))


def test_an_annotation_counts(tmp_path, monkeypatch):
    pytest.importorskip("mmdet")
    from aiqvit.tasks.coco import Coco
    from aiqvit.tasks.mini import coco as mini

    (tmp_path / "coco").mkdir()
    root = small_coco(tmp_path / "coco")
    monkeypatch.setattr(mini, "prepare", lambda: root)
    file = root / "annotations" / "instances_val2017.json"

    def edit():
        content = json.loads(file.read_text())
        content["annotations"][0]["area"] += 1
        file.write_text(json.dumps(content))

    assert changed(Case(root, lambda _: Coco("mini"), "", ""), edit) == ["data"]


def test_a_changed_picture_is_a_new_run_and_a_touched_one_is_not(imagenet, weights, tmp_path, capsys):
    root = shutil.copytree(imagenet, tmp_path / "copy")

    def bench():
        assert main(["--data", str(root), "--weights", str(weights), "--model", MODEL, "--method", "minmax", "--bits",
                     "8/8", "--threads", "1", "--calib", "2", "--out", str(tmp_path / "out")]) == 0
        return capsys.readouterr().out.count("done before")

    assert bench() == 0
    os.utime(root / "val" / "n01440764" / "0.JPEG")
    assert bench() == 2
    shown = Image.open(root / "val" / "n01440764" / "0.JPEG").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    shown.save(root / "val" / "n01440764" / "0.JPEG")
    assert bench() == 0


@pytest.mark.parametrize("which", ["val", "train"])
def test_a_task_that_is_asked_again_sees_what_became_of_its_files(case, which):
    task, path = case.open(case.root), case.root / getattr(case, which)
    before, content = task.identity(100, 0, None), path.read_bytes()
    part = "data" if which == "val" else "calibration"
    alter(path)
    assert getattr(task.identity(100, 0, None), part) != getattr(before, part)
    path.unlink()
    assert getattr(task.identity(100, 0, None), part) != getattr(before, part)
    path.symlink_to("/dev/zero")
    assert getattr(task.identity(100, 0, None), part) != getattr(before, part)
    path.unlink()
    path.write_bytes(content)
    assert task.identity(100, 0, None) == before
