"""The two point-cloud tasks on tiny folders in the official layouts: reading, wrong input, metrics, training."""

import os

import numpy as np
import pytest
import torch
from aiqvit.tasks import point_files
from aiqvit.tasks.modelnet40 import ModelNet40
from aiqvit.tasks.models.point_transformer import PointTransformer
from aiqvit.tasks.part_labels import OFFICIAL
from aiqvit.tasks.point_files import parse, read_points
from aiqvit.tasks.point_lists import Shape
from aiqvit.tasks.shapenetpart import ShapeNetPart, part_ious
from safetensors.torch import save_file

from aiqvit.bench import main as bench
from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Diverged, Labelled, Outcomes, UserError

VAL = "train_test_split/shuffled_val_file_list.json"


def quiet(items, *_, **__):
    return items


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, and few points a shape."""
    monkeypatch.setenv("AIQVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aiqvit.tasks.points.POINTS", 24)
    return tmp_path / "cache"


def weights(path, task):
    torch.manual_seed(0)
    save_file(task.kind(task.channels, task.classes, (8, 16), 8).state_dict(), path)
    return str(path)


# files


def test_rows_are_evenly_spaced_and_repeated_where_there_are_too_few(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{i} 0\n" for i in range(10)) + "\n")
    few, many = (read_points(tmp_path / "a.txt", (2, 3), count) for count in (5, 20))
    assert few.rows[:, 0].tolist() == [0, 2, 4, 6, 8] and few.total == many.total == 10
    assert many.rows[:, 0].tolist() == [i // 2 for i in range(20)]


def test_a_file_is_parsed_once_and_again_when_it_changes(tmp_path, cache, monkeypatch):
    path, calls = tmp_path / "a.txt", []
    path.write_text("1,2,0\n3,4,0\n")
    monkeypatch.setattr(point_files, "parse", lambda *a: calls.append(1) or parse(*a))
    first, second = (read_points(path, (3,), 2).rows for _ in range(2))
    assert np.array_equal(first, second) and calls == [1]
    path.write_text("1,2,0\n3,5,0\n")
    os.utime(path, ns=(0, 0))
    assert read_points(path, (3,), 2).rows[1, 1] == 5 and calls == [1, 1]
    assert [p for p in (cache / "points").iterdir() if p.suffix != ".safetensors"] == []
    for kept in (cache / "points").iterdir():
        kept.write_bytes(kept.read_bytes()[:20])  # half a file is not trusted
    assert read_points(path, (3,), 2).rows[1, 1] == 5 and calls == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3\n4,5\n", "line 2: 2 columns instead of 3"),
        ("1,2\n4,5\n", "line 1: 2 columns instead of 3"),
        ("1,2,3\n\n4,x,6\n", "line 3: 'x' is not a finite number"),
        ("1,2,nan\n", "line 1: 'nan' is not a finite number"),
        ("1,2,1e999\n", "line 1: '1e999' is not a finite number"),
        ("1 2 3 4\n", "line 1: 4 columns instead of 3"),
        ("0,1 0,2 0,3\n", "line 1: 4 columns instead of 3"),
        ("ply\nformat ascii 1.0\n", "line 2: 'format' is not a finite number"),
        ("nx,ny,nz,x,y,z\n1,2,3,4,5,6\n", "its columns are nx, ny, nz, x, y, z: expected x, y, z first"),
        ("x y z\n", "is empty: expected 3 numbers a line"),
        ("1,2,3,\n", "line 1: 4 columns instead of 3"),
        ("\n \n", "is empty: expected 3 numbers a line"),
        ("", "is empty"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_points(tmp_path / "bad.txt", (3,), 4)
    assert "bad.txt" in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="bad.txt': it is not text"):
        parse(tmp_path / "bad.txt", (3,))


# ModelNet40


def test_modelnet_reads_the_official_layout(modelnet):
    task = ModelNet40(str(modelnet))
    assert (task.train_images, task.val_images, task.classes, task.label) == (12, 6, 3, "modelnet40")
    points, targets, _ = next(task.batches(task.val, 6))
    assert points.shape == (6, 24, 6) and targets.tolist() == [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(points[..., :3].mean(1), torch.zeros(6, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(points[..., :3].norm(dim=-1).amax(1), torch.ones(6))
    raw = np.loadtxt(modelnet / "xbox" / "xbox_0005.txt", delimiter=",", dtype=np.float32)
    assert np.array_equal(points[5, :, 3:], raw[np.arange(24) * 30 // 24, 3:])  # normals as they are


def test_calibration_is_drawn_by_the_seed_and_bounded(modelnet, monkeypatch, tmp_path):
    task = ModelNet40(str(modelnet))
    subject = task.load("point_transformer", weights(tmp_path / "w.safetensors", task))
    first, again, other = (torch.cat(task.calibration(subject, 7, seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other) and len(first) == 7
    monkeypatch.setattr("aiqvit.tasks.points.CALIBRATION", 5)
    assert len(torch.cat(task.calibration(subject, 1024, 0))) == 5
    assert len(torch.cat(task.calibration(subject, 9, 0, explicit=True))) == 9
    with pytest.raises(UserError, match="only 12"):
        task.calibration(subject, 13, 0, explicit=True)


def test_quick_steps_see_few_of_the_large_shapes(modelnet):
    large = ModelNet40(str(modelnet))
    (choice,) = choose_methods("isvit")
    assert choice.build("quick", large.limits("quick")).batch == 2
    assert choice.build("paper", large.limits("paper")).batch == choice.method.batch == 64
    assert large.limits("quick") and not ModelNet40("mini").limits("quick")
    (apqvit,) = choose_methods("apqvit")
    assert apqvit.method.score_images == 0 and not apqvit.method.presets["quick"].get("score_images")  # all of them
    assert apqvit.build("quick", large.limits("quick")).score_images == 2
    assert apqvit.build("quick").score_images == 0


def test_another_list_is_another_label(modelnet):
    (modelnet / "few.txt").write_text("xbox_0000\nairplane_0005\n")
    task = ModelNet40(str(modelnet / "few.txt"))
    assert task.label == "modelnet40-few" and [shape.label for shape in task.val] == [2, 0]
    assert ModelNet40(str(modelnet / "modelnet40_test.txt")).label == ModelNet40(str(modelnet)).label


def test_accuracy_is_over_shapes_and_over_classes():
    task = ModelNet40.__new__(ModelNet40)
    shapes = [Shape(None, label) for label in (0, 0, 0, 2)]
    logits = torch.tensor([[1.0, 0, 0], [0, 0, 1], [3, 0, 0], [0, 0, 1]])
    batch = Labelled("abcd", None, (shapes, torch.tensor([0, 0, 0, 2])))
    found = task.metrics_of(Outcomes(tuple("abcd"), task.judge(logits, batch, None)), 4)
    assert found["macc"] == pytest.approx(100 * (2 / 3 + 1) / 2) and found["oa"] == 75  # class 1 does not occur


def test_an_output_that_is_not_finite_diverges(modelnet, tmp_path):
    task = ModelNet40(str(modelnet))
    subject = task.load("point_transformer", weights(tmp_path / "w.safetensors", task))
    subject.model.embed[0].bias.data.fill_(float("nan"))
    with pytest.raises(Diverged):
        task.evaluate(subject.model, subject, limit=None, batch_size=4, device="cpu", progress=quiet)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: (r / "xbox" / "xbox_0001.txt").unlink(), "names 'xbox_0001', but there is no file"),
        (lambda r: (r / "modelnet40_test.txt").write_text("sofa_0001"), "names 'sofa_0001', but 'sofa' is not a class"),
        (lambda r: (r / "modelnet40_test.txt").write_text("\n"), "modelnet40_test.txt' is empty"),
        (lambda r: (r / "modelnet40_test.txt").write_bytes(b"\xff\xfe\x00"), "test.txt' cannot be read as text"),
        (lambda r: (r / "modelnet40_shape_names.txt").unlink(), "no file .*shape_names.txt': expected the names of"),
    ],
)
def test_wrong_lists_are_named(modelnet, spoil, message):
    spoil(modelnet)
    with pytest.raises(UserError, match=message):
        ModelNet40(str(modelnet))
    with pytest.raises(UserError, match="'nowhere' does not exist"):
        ModelNet40("nowhere")


def test_weights_that_are_missing_or_of_another_size_are_named(modelnet, tmp_path):
    task = ModelNet40(str(modelnet))
    with pytest.raises(UserError, match="no published weights for modelnet40: give --weights FILE, or train"):
        task.load("point_transformer")
    save_file(PointTransformer(6, 40, (8, 16), 8).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="6 input channels and 40 classes instead of .* with 6 and 3"):
        task.load("point_transformer", str(tmp_path / "w.safetensors"))


def test_a_broken_shape_ends_the_command_with_one_sentence(modelnet, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = weights(tmp_path / "w.safetensors", ModelNet40(str(modelnet)))
    (modelnet / "xbox" / "xbox_0005.txt").write_text("1,2,3,4,5,6\n1,2,3,4,5\n")
    code = bench(["--task", "modelnet40", "--data", str(modelnet), "--weights", source, "--method", "fp32",
                  "--threads", "1"])
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("aiqvit:")]
    assert code == 2 and len(err) == 1 and "xbox_0005.txt', line 2: 5 columns instead of 6" in err[0]


# ShapeNetPart


def test_shapenet_reads_the_official_layout(shapenet):
    assert sum(OFFICIAL.values()) == 50 and len(OFFICIAL) == 16
    task = ShapeNetPart(str(shapenet))
    assert (task.train_images, len(task.held_out), task.val_images) == (6, 2, 4)
    assert (task.channels, task.classes) == (22, 50) and list(task.parts[10]) == [30, 31, 32, 33, 34, 35]
    points, targets, _ = next(task.batches(task.val, 4))
    assert points.shape == (4, 24, 22) and targets.shape == (4, 24)
    assert points[0, :, 6:].argmax(1).unique().tolist() == [1] and points[3, :, 6:].argmax(1).unique().tolist() == [9]
    assert targets[:2].unique().tolist() == [4, 5] and targets[2:].unique().tolist() == [28, 29]


def test_parts_of_another_category_are_refused(shapenet):
    path = shapenet / "03642806" / "shape4.txt"
    path.write_text(path.read_text().replace(" 28.000000\n", " 3.000000\n"))
    task = ShapeNetPart(str(shapenet))
    with pytest.raises(UserError, match="shape4.txt' has a part that is not .* Laptop: expected 28 to 29"):
        list(task.batches(task.val, 4))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: (r / "02773838" / "shape4.txt").unlink(), "names 'shape_data/02773838/shape4', but there is no"),
        (lambda r: (r / "synsetoffset2category.txt").write_text("Boat 1"), "the folder '02773838', which is not in"),
        (lambda r: (r / VAL).write_text("[}"), "val_file_list.json' is not JSON"),
        (lambda r: (r / VAL).write_text("[]"), "list.json' is empty"),
        (lambda r: (r / VAL).write_text('["a/9/b"]'), "names the folder '9'"),
    ],
)
def test_wrong_shapenet_lists_are_named(shapenet, spoil, message):
    spoil(shapenet)
    with pytest.raises(UserError, match=message):
        ShapeNetPart(str(shapenet))


def slow_iou(predicted, target, parts):
    scores = []
    for part in parts:
        both = [i for i in range(len(target)) if predicted[i] == part and target[i] == part]
        any_ = [i for i in range(len(target)) if predicted[i] == part or target[i] == part]
        scores.append(1.0 if not any_ else len(both) / len(any_))
    return sum(scores) / len(scores)


def test_iou_on_hand_made_cases():
    cases = [([4, 4, 5, 5], [4, 4, 5, 5], 1.0), ([4, 4, 4, 4], [4, 4, 5, 5], (2 / 4 + 0) / 2),
             ([4, 4], [4, 4], 1.0), ([5, 4], [4, 4], (1 / 2 + 0) / 2)]  # a part in neither counts as 1
    for predicted, target, expected in cases:
        assert np.mean(part_ious(torch.tensor(predicted), torch.tensor(target), (4, 5))) == pytest.approx(expected)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        predicted, target = torch.randint(30, 36, (2, 9), generator=generator)
        assert np.mean(part_ious(predicted, target, range(30, 36))) == pytest.approx(
            slow_iou(predicted.tolist(), target.tolist(), range(30, 36)))


def test_both_mious_choose_within_the_category():
    task = ShapeNetPart.__new__(ShapeNetPart)
    task.parts = [range(0, 2), range(2, 4)]
    shapes = [Shape(None, 0), Shape(None, 0), Shape(None, 1)]
    logits = torch.full((3, 2, 4), -1.0)
    logits[:, :, 0] = 9  # the largest logit of all; in category 1 only columns 2 and 3 count
    logits[2, 0, 2], logits[2, 1, 3] = 1, 1
    targets = torch.tensor([[0, 0], [0, 1], [2, 3]])
    outcomes = Outcomes(("a", "b", "c"), task.judge(logits, Labelled("abc", None, (shapes, targets)), None))
    assert outcomes.arrays["iou"].mean(1).tolist() == [1.0, 0.25, 1.0]
    found = task.metrics_of(outcomes, 3)
    assert found == {"class_miou": pytest.approx(100 * (0.625 + 1) / 2), "instance_miou": pytest.approx(75.0),
                     "images": 3, "skipped": 0}


# training
