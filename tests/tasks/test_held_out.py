"""Training samples held out for tuning: labelled, never calibrated on, never in a table with results."""

import shutil

import pytest
from aiqvit.tasks.held_out import label, split
from aiqvit.tasks.imagenet import ImageNet
from aiqvit.tasks.modelnet40 import ModelNet40
from aiqvit.tasks.shapenetpart import ShapeNetPart

from aiqvit.cli.main import main
from aiqvit.harness.store.records import Store
from aiqvit.interfaces import UserError


def quiet(items, *_, **__):
    return items


def test_the_rest_and_what_is_held_out_are_all():
    for count in range(1, 10):
        rest, held = split(range(10), count)
        assert sorted(rest + held) == list(range(10)) and len(held) == count
    assert split(range(10), 5)[1] == [0, 2, 4, 6, 8]  # every class of a sorted list has its share
    for count in (0, 10, 11):
        with pytest.raises(UserError, match=f"--held-out {count}: there are 10 training samples"):
            split(range(10), count)


def test_its_label_never_shares_a_table_with_results():
    assert [label(name) for name in ("imagenet", "imagenet-mini", "modelnet40-h5")] == [
        "imagenet-train", "imagenet-train-mini", "modelnet40-h5-train"]


def test_pictures_are_evaluated_with_the_classes_of_their_folders(imagenet, weights, tmp_path):
    task = ImageNet(str(imagenet), held_out=6)
    subject = task.load("test_vit", str(weights))
    said = task.outcomes(subject.model, subject, limit=None, batch_size=4, device="cpu", progress=quiet)
    assert (task.label, task.train_images, task.val_images) == ("imagenet-train", 6, 6)
    assert said.arrays["label"].tolist() == [0, 0, 1, 1, 285, 285]
    held = {imagenet / name for name in said.samples}
    assert all(path.is_file() and path.is_relative_to(imagenet / "train") for path in held)
    assert not held & {path for seed in range(9) for path, _ in task._shuffled(seed)}
    root = tmp_path / "as_val"  # the same pictures as a validation set
    for path in held:
        (root / "val" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "val" / path.parent.name)
    val = ImageNet(str(root))
    options = dict(limit=None, batch_size=4, device="cpu", progress=quiet)
    assert val.evaluate(subject.model, subject, **options) == task.evaluate(subject.model, subject, **options)


def test_pictures_of_no_class_leave_the_accuracy_undefined(imagenet, weights, tmp_path):
    (tmp_path / "flat").mkdir()
    for i, path in enumerate(sorted((imagenet / "train").rglob("*.JPEG"))):
        shutil.copy(path, tmp_path / "flat" / f"{i}.JPEG")
    task = ImageNet(str(imagenet), calib_data=str(tmp_path / "flat"), held_out=4)
    subject = task.load("test_vit", str(weights))
    from aiqvit.evaluation import Teacher

    said = task.outcomes(subject.model, subject, limit=None, batch_size=4, device="cpu", progress=quiet,
                         teacher=Teacher(subject.model))
    found = task.metrics_of(said, 4)
    assert found["top1"] != found["top1"] and (found["agreement"], found["kl"]) == (100, 0)


@pytest.mark.parametrize("kind", [ModelNet40, ShapeNetPart])
def test_shapes_are_held_out_too(kind):
    plain, task = kind("mini"), kind("mini", held_out=50)
    held, rest = set(task.val), set(task.train)
    assert held | rest == set(plain.train) and not held & rest and len(held) == 50
    assert task.label == f"{kind.name}-train-mini" and set(kind.metrics) <= set(task.metrics)
    assert plain.identity(8, 0, None) != task.identity(8, 0, None)
    assert "evaluated on 50 training samples" in task.notes()[-1] and not any("evaluated" in n for n in plain.notes())


def test_the_command_makes_records_on_training_samples(imagenet, weights, methods, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--data", str(imagenet), "--weights", str(weights), "--model", "test_vit", "--bits", "4/4"]
    assert main(["judge", *flags, "--held-out", "6", "--method", "toy[steps=1],toy[steps=2]"]) == 0
    records = list(Store("results/tuning").records())
    assert len(records) == 3 and {record["spec"]["task"] for record in records} == {"imagenet-train"}
    assert all(record["outcomes"] and record["metrics"]["images"] == 6 for record in records)
    said = capsys.readouterr().out
    assert "evaluated on 6 training samples that no method calibrates on" in said and "test_vit kl" in said
    assert main(["judge", *flags, "--held-out", "12"]) == 2
    assert "--held-out 12: there are 12 training samples" in capsys.readouterr().err


def test_a_task_without_it_says_so(capsys):
    assert main(["judge", "--task", "coco", "--data", "mini"]) == 2
    assert "the task 'coco' cannot be judged on training samples (--held-out" in capsys.readouterr().err


def test_a_config_file_goes_over_its_defaults(imagenet, weights, methods, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "j.toml").write_text('held_out = 5\nout = "mine"\n')
    flags = ["--data", str(imagenet), "--weights", str(weights), "--model", "test_vit", "--bits", "4/4"]
    assert main(["judge", "--config", "j.toml", *flags, "--method", "toy"]) == 0
    assert {record["metrics"]["images"] for record in Store("mine").records()} == {5}
    assert "in brackets: 95 % interval" in capsys.readouterr().out


def test_its_help_is_its_own(capsys):
    assert main(["judge", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "usage: aiqvit judge" in said and "(default: results/tuning)" in said and "no result chooses them" in said
