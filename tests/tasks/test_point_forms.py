"""Shapes as people have them: every usual form of a text file, HDF5, lists of Windows, own categories, odd points."""

import json
import shutil

import numpy as np
import pytest
import torch
from aiqvit.tasks.modelnet40 import ModelNet40
from aiqvit.tasks.models.point_transformer import PointSegmenter
from aiqvit.tasks.part_labels import CATEGORIES, PARTS_FILE
from aiqvit.tasks.point_files import look, read_points
from aiqvit.tasks.shapenetpart import ShapeNetPart

from aiqvit.bench import main as bench
from aiqvit.harness.store.records import Store
from aiqvit.interfaces import Labelled, UserError
from tests.points import weights

ROWS = np.arange(36, dtype=np.float32).reshape(6, 6) / 8
pytestmark = pytest.mark.usefixtures("small_shapes")


def rewritten(root, edit):
    """Every shape file below a folder, its rows changed by `edit` and written with blanks."""
    for path in root.glob("*/*.txt"):
        rows = np.loadtxt(path.read_text().replace(",", " ").splitlines(), ndmin=2)
        np.savetxt(path, edit(rows), "%.6f")
    return root


# forms of text files


def lines(mark, end="\n"):
    return end.join(mark.join(f"{v:.4f}" for v in row) for row in ROWS) + end


@pytest.mark.parametrize(
    "content",
    [
        lines(",").encode(),
        lines(" ").encode(),
        lines("\t").encode(),
        lines("; ").encode(),
        lines(",  ").encode(),
        lines(",", "\r\n").encode("utf-8-sig"),
        lines(" ").encode("utf-16"),
        ("x,y,z,nx,ny,nz\n" + lines(",")).encode(),
        ('"X" "Y" "Z" "NX" "NY" "NZ"\r\n' + lines(" ", "\r\n")).encode("utf-8-sig"),
        ("# made by hand\n\n6\n" + lines(" ")).encode(),
        ("// a\nx y z nx ny nz\n6\n" + lines("   ")).encode(),
        ("#" * 5000 + "\n" + lines(" ")).encode(),  # longer than what is looked at first
    ],
)
def test_every_usual_form_is_read(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    assert look(tmp_path / "a.txt", (3, 6)).columns == 6
    assert np.array_equal(read_points(tmp_path / "a.txt", (3, 6), 6).rows, ROWS)


def test_a_folder_of_blanks_gives_what_one_of_commas_gives(modelnet, tmp_path):
    other = rewritten(shutil.copytree(modelnet, tmp_path / "other"), lambda rows: rows)
    first, second = (next(task.batches(task.val, 6))[0] for task in (ModelNet40(str(modelnet)), ModelNet40(str(other))))
    assert torch.equal(first, second)


def test_all_files_are_looked_at_when_the_task_opens(modelnet):
    for name in ("xbox_0000", "xbox_0005"):
        (modelnet / "xbox" / f"{name}.txt").write_text("1,2,3,4\n")
    with pytest.raises(UserError, match=r"xbox_0000.txt', line 1: 4 columns instead of 3 or 6 \(2 of 18 shapes have"):
        ModelNet40(str(modelnet))


def test_a_fault_behind_the_first_lines_is_said_before_the_first_run(modelnet):
    path = modelnet / "xbox" / "xbox_0005.txt"
    path.write_text(path.read_text() + "1,2,3,nan,5,6\n")
    task = ModelNet40(str(modelnet))
    task.identity(0, 0, 1)  # the first shape only
    with pytest.raises(UserError, match="xbox_0005.txt', line 31: 'nan' is not a finite number"):
        task.identity(0, 0, None)


# channels


def test_normals_are_left_out_for_a_network_without(modelnet, tmp_path):
    task = ModelNet40(str(modelnet))
    full = next(task.batches(task.val, 6))[0]
    subject = task.load("point_transformer", weights(tmp_path / "w.safetensors", channels=3))
    other = ModelNet40(str(modelnet)).calibration(None, 1, 0)[0]
    assert torch.equal(task.calibration(subject, 1, 0)[0], other[..., :3])
    assert torch.equal(next(task.batches(task.val, 6))[0], full[..., :3])


def test_coordinates_alone_are_enough_for_a_network_that_takes_them(modelnet, tmp_path):
    task = ModelNet40(str(rewritten(modelnet, lambda rows: rows[:, :3])))
    assert task.channels == 3 and next(task.batches(task.val, 6))[0].shape == (6, 24, 3)
    task.load("point_transformer", weights(tmp_path / "w.safetensors", channels=3))
    with pytest.raises(UserError, match="take normals, but 18 files have only x, y, z, the first .*airplane_0000.txt"):
        task.load("point_transformer", weights(tmp_path / "w.safetensors"))
    with pytest.raises(UserError, match="7 input channels and 3 classes instead of a PointTransformer with 3 or 6"):
        task.load("point_transformer", weights(tmp_path / "w.safetensors", channels=7))


# lists


def test_lists_of_windows_with_folders_and_suffixes(modelnet):
    (modelnet / "modelnet40_test.txt").write_bytes("xbox_0004\r\nxbox/xbox_0005.txt\r\n\r\n".encode("utf-8-sig"))
    task = ModelNet40(str(modelnet))
    assert [(shape.path.name, shape.label) for shape in task.val] == [("xbox_0004.txt", 2), ("xbox_0005.txt", 2)]


def test_home_in_a_list(modelnet, monkeypatch):
    monkeypatch.setenv("HOME", str(modelnet.parent))
    (modelnet / "modelnet40_test.txt").write_text("~/modelnet/xbox/xbox_0004.txt\n")
    assert ModelNet40(str(modelnet)).val[0].path == modelnet / "xbox" / "xbox_0004.txt"


def test_the_ten_classes_beside_the_forty(modelnet):
    (modelnet / "modelnet10_shape_names.txt").write_text("night_stand\nxbox\n")
    (modelnet / "modelnet10_train.txt").write_text("xbox_0000\nnight_stand_0000\n")
    (modelnet / "modelnet10_test.txt").write_text("xbox_0004\n")
    assert ModelNet40(str(modelnet)).classes == 3  # of the forty, as the folder is named for them
    ten = ModelNet40(str(modelnet / "modelnet10_test.txt"))
    assert (ten.classes, ten.label, ten.val[0].label) == (2, "modelnet40-modelnet10", 1)
    for path in modelnet.glob("modelnet40_*.txt"):
        path.unlink()
    assert ModelNet40(str(modelnet)).label == "modelnet40-modelnet10"
    (modelnet / "mine_shape_names.txt").write_text("xbox\n")
    with pytest.raises(UserError, match="lists of mine, modelnet10: name the one to test on, for example --data"):
        ModelNet40(str(modelnet))


def test_a_class_named_twice_is_refused(modelnet):
    (modelnet / "modelnet40_shape_names.txt").write_text("airplane\nnight_stand\nxbox\nairplane\n")
    with pytest.raises(UserError, match="names the class 'airplane' twice"):
        ModelNet40(str(modelnet))


# HDF5


def sphere(task):
    return next(task.batches(task.val, 6))[0][..., :3]


@pytest.mark.parametrize("edit", [lambda xyz: xyz * 1e25, lambda xyz: xyz * 1e-30, lambda xyz: xyz * 1e200,
                                  lambda xyz: xyz + 1e6])
def test_huge_tiny_and_far_coordinates_do_not_collapse(modelnet, tmp_path, edit):
    expected = sphere(ModelNet40(str(modelnet)))
    for path in modelnet.glob("*/*.txt"):
        rows = np.loadtxt(path, delimiter=",")
        np.savetxt(path, np.concatenate([edit(rows[:, :3]), rows[:, 3:]], 1), "%.17g", ",")
    torch.testing.assert_close(sphere(ModelNet40(str(modelnet))), expected, atol=1e-5, rtol=0)


def test_few_repeated_and_collapsed_points_are_counted(modelnet, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = weights(tmp_path / "w.safetensors")
    rng = np.random.default_rng(1)

    def write(name, rows):
        np.savetxt(modelnet / "xbox" / f"{name}.txt", rows, "%.4f", ",")

    write("xbox_0004", np.ones((30, 6)))
    write("xbox_0005", rng.standard_normal((10, 6)))
    (modelnet / "airplane" / "airplane_0004.txt").write_text(
        (modelnet / "airplane" / "airplane_0004.txt").read_text().splitlines()[0] + "\n"
        + "".join("1,2,3,0,0,1\n" for _ in range(40)))
    assert bench(["--task", "modelnet40", "--data", str(modelnet), "--weights", source, "--method", "fp32", "--threads",
                  "1", "--out", "out"]) == 0
    said = [
        "1 of 6 shapes read have fewer points than the 24 that the network takes, so that points are repeated; the "
        "first is 'xbox_0005.txt' with 10",
        "1 of 6 shapes read have repeated points among the 24 that the network takes; the first is "
        "'airplane_0004.txt' with 2 different ones",
        "1 of 6 shapes read have all their points at one place; the first is 'xbox_0004.txt'",
    ]
    out = capsys.readouterr().out
    assert all(f"modelnet40: {line}" in out and f"- {line}" in out for line in said)
    (record,) = Store("out").records()
    assert record["data"]["notes"] == said


# ShapeNetPart


def own(root, names=("Boat", "Tree house")):
    (root / CATEGORIES).write_bytes("".join(f"{n}\t{f}\r\n" for n, f in zip(names, ("02773838", "03642806"),
                                                                         strict=True)).encode("utf-8-sig"))
    return root


def test_own_categories_have_the_parts_of_their_labels(shapenet, tmp_path):
    task = ShapeNetPart(str(own(shapenet)))
    assert task.categories == ("Boat", "Tree house") and task.parts == [[4, 5], [28, 29]]
    assert (task.channels, task.classes) == (8, 30)
    points, targets, shapes = next(task.batches(task.val, 4))
    assert points.shape == (4, 24, 8) and points[3, 0, 6:].tolist() == [0, 1]
    logits = torch.zeros(4, 24, 30).scatter_(2, targets[..., None], 1)
    found = task.judge(logits, Labelled([""] * 4, points, (shapes, targets)), None)
    assert found["iou"].tolist() == [[1.0, 1.0]] * 4 and found["category"].tolist() == [s.label for s in shapes]
    task.load("point_transformer", weights(tmp_path / "w.safetensors", PointSegmenter, 8, 50))  # parts that no file has
    assert task.classes == 50
    with pytest.raises(UserError, match="8 input channels and 29 classes"):
        ShapeNetPart(str(shapenet)).load("all", weights(tmp_path / "w.safetensors", PointSegmenter, 8, 29))


def test_own_parts_may_be_listed(shapenet):
    (own(shapenet) / PARTS_FILE).write_text(json.dumps({"Boat": [4, 5, 6], "Tree house": [28, 29]}))
    task = ShapeNetPart(str(shapenet))
    assert task.parts == [[4, 5, 6], [28, 29]] and task.classes == 30
    (shapenet / PARTS_FILE).write_text(json.dumps({"Boat": 4, "Tree house": 26}))
    with pytest.raises(UserError, match="not one of its category Boat: expected 0 to 3"):
        ShapeNetPart(str(shapenet)).identity(0, 0, None)
    for wrong, message in (({"Boat": 4}, "says nothing of 'Tree house'"), ([1], "says nothing of 'Boat'"),
                           ({"Boat": 4, "Tree house": [1]}, "a number for 'Boat' but labels")):
        (shapenet / PARTS_FILE).write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=message):
            ShapeNetPart(str(shapenet))


def test_parts_must_be_whole_numbers(shapenet):
    rewritten(own(shapenet), lambda rows: rows + 0.5)
    with pytest.raises(UserError, match="its last column is not the part of a point"):
        ShapeNetPart(str(shapenet))


def test_shapenet_without_normals_and_without_shape_data(shapenet, tmp_path):
    rewritten(shapenet, lambda rows: rows[:, [0, 1, 2, 6]])
    for path in (shapenet / "train_test_split").iterdir():
        path.write_bytes(path.read_text().replace("shape_data/", "").encode("utf-8-sig"))
    task = ShapeNetPart(str(shapenet))
    assert task.channels == 19 and next(task.batches(task.val, 4))[0].shape == (4, 24, 19)
    task.load("point_transformer", weights(tmp_path / "w.safetensors", PointSegmenter, 19, 50))
    with pytest.raises(UserError, match="take normals, but 12 files have only x, y, z"):
        task.load("point_transformer", weights(tmp_path / "w.safetensors", PointSegmenter, 22, 50))


def test_the_older_distribution_is_known(shapenet):
    (shapenet / "02773838" / "points_label").mkdir()
    (shapenet / "02773838" / "shape4.txt").unlink()
    with pytest.raises(UserError, match="the older distribution: take .*_normal"):
        ShapeNetPart(str(shapenet))
