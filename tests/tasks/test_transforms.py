"""Preparation of pictures: as typed, else as the weights say, else timm's; it is part of a run's identity."""

import argparse
import json

import numpy as np
import pytest
import timm
import torch
from aiqvit.tasks import transforms
from aiqvit.tasks.imagenet import ImageNet
from PIL import Image
from safetensors.torch import save_file

from aiqvit.bench import main, read
from aiqvit.interfaces import UserError
from tests.conftest import MODEL


def test_any_subset_is_read():
    assert transforms.typed("mean=0.5,std=0.25,0.5,1,crop=1") == {
        "mean": (0.5,) * 3, "std": (0.25, 0.5, 1.0), "crop_pct": 1.0}
    assert transforms.typed("size=224x192, interpolation=bilinear") == {
        "input_size": (3, 224, 192), "interpolation": "bilinear"}


@pytest.mark.parametrize(("text", "message"), [
    ("", "expected KEY=VALUE"), ("0.5", "expected KEY=VALUE,... with mean, std, crop, size, interpolation"),
    ("means=0.5", "means=0.5: expected one of mean"), ("mean=0.5,0.5", "mean=0.5,0.5: expected one number or three"),
    ("mean=123.7,116.3,103.5", "divide by 255"), ("std=0", "above 0"), ("std=nan", "expected one number or three"),
    ("crop=224", "crop=224: expected the share"), ("crop=0", "share"), ("size=big", "expected pixels"),
    ("size=0", "expected pixels"), ("interpolation=cubic", "one of bicubic, bilinear"), ("mean=", "mean=: expected"),
    ("crop=1,crop=0.9", "crop is there twice"), ("crop=inf", "share"),
])
def test_wrong_values_are_one_sentence(text, message, imagenet):
    with pytest.raises(UserError, match=message) as caught:
        ImageNet(str(imagenet), transform=text)
    assert "\n" not in str(caught.value)


@pytest.fixture
def load(tmp_path, imagenet, weights):
    """Load the model with what is typed and with what its file, or one beside it, says."""
    def call(transform=None, inside=None, name="w.pth", **beside):
        for key, content in beside.items():
            (tmp_path / f"{key}.json").write_text(json.dumps(content))
        state = timm.create_model(MODEL).state_dict()
        if inside is None:
            save_file(state, tmp_path / "w.safetensors")
        else:
            torch.save({"state_dict": state, **inside}, tmp_path / name)
        task = ImageNet(str(imagenet), transform=transform)
        file = tmp_path / ("w.safetensors" if inside is None else name)
        return task, task.load(MODEL, str(file))

    return call


def test_timm_s_own_is_no_word(load):
    task, subject = load()
    assert subject.inputs == {} and task.notes() == []
    task, subject = load("size=160,interpolation=bicubic")
    assert subject.inputs == {} and task.notes() == []  # the same typed is the same run


def test_typed(load):
    task, subject = load("mean=0,std=1,crop=1,interpolation=nearest")
    assert subject.inputs == {"transform": "mean=0.0,0.0,0.0,std=1.0,1.0,1.0,crop=1.0,interpolation=nearest"}
    assert task.notes() == [f"{MODEL}: pictures prepared with {subject.inputs['transform']} (--transform)"]
    prepared = task._transform(subject)(Image.fromarray(np.full((160, 160, 3), 51, np.uint8)))
    assert prepared.shape == (3, 160, 160) and torch.allclose(prepared, torch.tensor(0.2))


def test_typed_goes_over_what_the_weights_say(load):
    said = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.8}
    task, subject = load("mean=0.9", inside={"pretrained_cfg": said})
    assert subject.inputs["transform"] == "mean=0.9,0.9,0.9,std=0.4,0.5,0.6,crop=0.8"
    assert task.notes()[0].endswith("(--transform, the weights file)")


@pytest.mark.parametrize("key", ("pretrained_cfg", "config", "args"))
def test_what_a_torch_file_says(load, key):
    said = {"mean": (0.1, 0.2, 0.3), "crop_pct": None, "interpolation": "", "img_size": None}
    assert load(inside={key: said})[1].inputs == {"transform": "mean=0.1,0.2,0.3"}


def test_what_the_arguments_of_a_training_script_say(tmp_path):
    options = argparse.Namespace(mean=None, std=[0.5], crop_pct=0.95, interpolation="", img_size=None, lr=0.1)
    torch.save({"state_dict": {}, "args": options}, tmp_path / "w.pth")
    found, where = transforms.of_weights(tmp_path / "w.pth", MODEL)
    assert found == {"std": (0.5,) * 3, "crop_pct": 0.95} and where == "the weights file"


def test_what_is_said_beside_the_weights(load):
    config = {"architecture": MODEL, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "input_size": [3, 160, 160]}}
    assert load(config=config)[1].inputs == {"transform": "mean=0.1,0.2,0.3"}
    assert load(config=config | {"architecture": "another_model"})[1].inputs == {}


@pytest.mark.parametrize(("processor", "values"), [
    ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 160, "width": 160}, "resample": 2},
     {"input_size": (3, 160, 160), "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"}),
    ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 256, "crop_size": {"height": 224, "width": 224},
      "do_center_crop": True, "resample": 3},
     {"input_size": (3, 224, 224), "crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic"}),
])
def test_an_image_processor_beside_the_weights(tmp_path, processor, values):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    found, where = transforms.of_weights(tmp_path / "w.safetensors", MODEL)
    assert found == {"mean": (0.5,) * 3, "std": (0.5,) * 3} | values
    assert where == "preprocessor_config.json beside the weights"


@pytest.mark.parametrize("content", ["no json", "[]", "{}", '{"mean": "x", "std": [1e9], "crop_pct": {}}'])
def test_what_means_something_else_is_left_out(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    assert transforms.of_weights(tmp_path / "w.safetensors", MODEL) == ({}, "")


def test_another_size(tmp_path, imagenet):
    save_file(timm.create_model(MODEL, img_size=96, num_classes=1000).state_dict(), tmp_path / "w.safetensors")
    task = ImageNet(str(imagenet), transform="size=96")
    subject = task.load(MODEL, str(tmp_path / "w.safetensors"))
    assert task.example(subject).shape == (1, 3, 96, 96) and subject.inputs == {"transform": "size=96"}
    assert task.calibration(subject, 2, 0)[0].shape == (2, 3, 96, 96)


def test_a_size_that_the_network_cannot_have(imagenet, tmp_path):
    save_file(timm.create_model(MODEL).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="model 'test_vit' cannot be built for pictures of 100x100 .* divisible by"):
        ImageNet(str(imagenet), transform="size=100").load(MODEL, str(tmp_path / "w.safetensors"))


def test_on_the_command_line_another_transform_is_another_run(bench, capsys):
    options = {"method": "minmax", "calib": "2", "limit": "3"}
    assert bench(**options) == 0
    assert bench(transform="crop=0.5", **options) == 0
    out = capsys.readouterr().out
    assert "done before" not in out and f"imagenet: {MODEL}: pictures prepared with crop=0.5 (--transform)" in out
    assert bench(transform="crop=0.5", **options) == 0 and bench(**options) == 0
    assert capsys.readouterr().out.count("done before") == 4


def test_flags_of_other_tasks_and_of_a_file(tmp_path, capsys):
    assert main(["--task", "modelnet40", "--data", "mini", "--transform", "crop=1"]) == 2
    assert "--transform: the task 'modelnet40' has no such option" in capsys.readouterr().err
    assert main(["--data", "mini", "--calib-data", str(tmp_path)]) == 2
    assert "belong to --data DIR" in capsys.readouterr().err
    (tmp_path / "a.toml").write_text('calib-data = "pictures"\n[transform]\nmean = [0.5, 0.4, 0.3]\ncrop = 1\n')
    args = read(["--config", str(tmp_path / "a.toml")])
    assert (args.calib_data, args.transform) == ("pictures", "mean=0.5,0.4,0.3,crop=1")


def test_a_set_whose_items_hash_for_ever_costs_nothing(tmp_path):
    """torch's own reader of plain values would make the set."""
    deep = ()
    for _ in range(80):
        deep = (deep, deep)

    class Set:
        def __reduce__(self):
            return set, ([deep],)

    torch.save({"state_dict": {"a": torch.zeros(2)}, "args": Set(), "crop_pct": 0.9}, tmp_path / "w.pth")
    assert transforms.of_weights(tmp_path / "w.pth", MODEL) == ({"crop_pct": 0.9}, "the weights file")


@pytest.mark.parametrize("key", ["mean", "std", "crop_pct", "input_size", "interpolation"])
@pytest.mark.parametrize("value", [[], [[]], {}, "", "x", 1e308, -1, [None], [10**400], True])
def test_values_that_make_no_sense_are_left_out(tmp_path, key, value):
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {key: value, "crop_mode": "center"}}))
    assert transforms.of_weights(tmp_path / "w.safetensors", MODEL)[0].get(key) is None
