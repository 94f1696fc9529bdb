"""Layout, class indices, models, units, calibration draws, evaluation."""

import sys
import types

import pytest
import timm
import torch
from aiqvit.tasks.imagenet import TAGS, ImageNet
from safetensors.torch import save_file
from torch import nn

from aiqvit.families.opening import unit_names
from aiqvit.interfaces import Diverged, Subject, UserError
from tests.conftest import MODEL


def plain(items, description="", total=None):
    return items


class Constant(nn.Module):
    """The same logits for every image."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits.expand(len(images), -1)


@pytest.fixture
def task(imagenet):
    return ImageNet(str(imagenet))


@pytest.fixture
def subject(task, weights):
    return task.load(MODEL, str(weights))


def evaluate(task, subject, model, **options):
    defaults = {"limit": None, "batch_size": 4, "device": "cpu", "progress": plain}
    return task.evaluate(model, subject, **defaults | options)


def test_class_index_from_the_folder_name(task):
    assert sorted({label for _, label in task._val}) == [0, 1, 285]
    assert (task.label, task.train_images, task.val_images) == ("imagenet", 12, 15)


def test_top1_and_top5_over_known_logits(task, subject):
    logits = torch.zeros(1, 1000)
    logits[0, [5, 6, 7, 0, 9]] = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    found = evaluate(task, subject, Constant(logits))
    assert found == {"top1": 0.0, "top5": pytest.approx(100 / 3), "images": 15, "skipped": 0}
    logits[0, 285] = 9.0
    assert evaluate(task, subject, Constant(logits))["top1"] == pytest.approx(100 / 3)


def test_equal_logits_are_not_all_right(task, subject):
    found = evaluate(task, subject, Constant(torch.zeros(1, 1000)))
    assert found["top1"] == pytest.approx(100 / 3)  # only class 0 comes first among equals


def test_logits_that_are_not_finite(task, subject):
    with pytest.raises(Diverged, match="not finite"):
        evaluate(task, subject, Constant(torch.full((1, 1000), float("nan"))))


def test_limit_takes_images_of_all_classes(task, subject):
    found = evaluate(task, subject, Constant(torch.eye(1000)[:1]), limit=3, batch_size=2)
    assert found["images"] == 3 and found["top1"] == pytest.approx(100 / 3)


def test_calibration_is_drawn_by_seed(task, subject):
    (first,) = task.calibration(subject, 5, 0)
    assert first.shape == (5, 3, 160, 160)
    assert torch.equal(first, torch.cat(task.calibration(subject, 12, 0))[:5])  # a longer draw begins alike
    assert torch.equal(first, task.calibration(subject, 5, 0)[0])
    assert not torch.equal(first, task.calibration(subject, 5, 1)[0])
    assert sum(map(len, task.calibration(subject, 1000, 0))) == 12  # a preset asks for at most what there is
    assert task.calibration(subject, 0, 0) == [] or sum(map(len, task.calibration(subject, 0, 0))) == 0
    with pytest.raises(UserError, match="only 12"):
        task.calibration(subject, 13, 0, explicit=True)


def test_calibration_batches_are_at_most_32(task, subject):
    task._train = task._train * 4
    task.train_images = 48
    assert [len(b) for b in task.calibration(subject, 40, 0)] == [32, 8]


def test_fingerprint_counts(task):
    assert task.fingerprint() == {"train": 12, "val": 15, "skipped": []}


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ([], "does not exist"),
        ([""], "has no folder 'train'"),
        (["train/n01440764"], "has no folder 'train'|has no folder 'val'"),
        (["train/n01440764", "val"], "has no class folders"),
        (["train/n01440764", "val/n01440764"], "no images in"),
    ],
)
def test_wrong_layouts(tmp_path, folders, message):
    for folder in folders:
        (tmp_path / "data" / folder).mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        ImageNet(str(tmp_path / "data"))


def test_model_names(task):
    paper = "deit_tiny deit_small deit_base vit_small vit_base swin_small swin_base"
    assert task.resolve("all") == paper.split()
    assert task.resolve("*_tiny") == ["deit_tiny", "vit_tiny", "swin_tiny"]
    assert task.resolve("deit_small_distilled_patch16_224") == ["deit_small_distilled_patch16_224"]
    assert task.resolve("vit_base_patch16_224.augreg2_in21k_ft_in1k")
    with pytest.raises(UserError, match="invalid|Invalid"):
        task.resolve("vit_base_patch16_224.no_such_tag")
    with pytest.raises(UserError, match=r"no family knows the network 'resnet18' \(timm.models.resnet.ResNet\)"):
        task.load("resnet18", "weights that nobody has")


def test_tags_exist_in_timm():
    assert all(timm.models.get_pretrained_cfg(tag).hf_hub_id for tag in TAGS.values())


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("vit_tiny_patch16_224", ["patch_embed", "blocks.0"], ["blocks.11", "head"], 14),
        ("deit_tiny_distilled_patch16_224", ["patch_embed", "blocks.0"], ["head", "head_dist"], 15),
        ("swin_tiny_patch4_window7_224", ["patch_embed", "layers.0.blocks.0"], ["layers.3.blocks.1", "head.fc"], 17),
    ],
)
def test_units_are_called_in_order_and_once(name, first, last, count):
    net = timm.create_model(name).eval()
    units = list(unit_names(net))
    assert units[:2] == first and units[-2:] == last and len(units) == count
    called = []
    for unit in units:
        net.get_submodule(unit).register_forward_hook(lambda *_, unit=unit: called.append(unit))
    with torch.inference_mode():
        net(torch.zeros(1, 3, 224, 224))
    assert called == units


def test_transform_is_the_tags_own(task):
    def of(name):
        return str(task._transform(Subject(name, timm.create_model(TAGS[name]), (), "")))

    assert "size=248" in of("deit_tiny") and "0.4850" in of("deit_tiny")
    assert "size=248" in of("vit_tiny") and "0.5000" in of("vit_tiny")


def test_weights_of_the_authors_are_renamed(task, tmp_path):
    """Swin's own files number the downsampling layers differently, name the head `head` and hold constant buffers."""
    net = timm.create_model("swin_tiny_patch4_window7_224")
    old = {}
    for key, value in net.state_dict().items():
        if ".downsample." in key:
            stage = int(key.split(".")[1])
            key = key.replace(f"layers.{stage}.", f"layers.{stage - 1}.")
        old[key.replace("head.fc.", "head.")] = value
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(1)
    torch.save({"model": old}, tmp_path / "swin.pth")
    subject = task.load("swin_tiny", str(tmp_path / "swin.pth"))
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in subject.model.state_dict().items())


def test_no_weights_and_no_hub(task, monkeypatch):
    monkeypatch.setattr("aiqvit.tasks.weights._answers", lambda url: False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(UserError, match="hub cannot be reached: give --weights FILE"):
        task.load("deit_tiny")


def test_mini_data_stands_in(monkeypatch, imagenet, tmp_path, weights):
    net = timm.create_model(MODEL, num_classes=3)
    save_file(net.state_dict(), tmp_path / "mini.safetensors")
    mini = types.SimpleNamespace(
        SYNSETS=("n01440764", "n01443537", "n02124075"),
        MODELS=("mini_vit",),
        prepare=lambda: imagenet,
        build=lambda name: timm.create_model(MODEL, num_classes=3),
        weights=lambda name: tmp_path / "mini.safetensors",
        transform=lambda name: lambda image: torch.zeros(3, 160, 160),
    )
    package = types.ModuleType("aiqvit.tasks.mini")
    package.imagenet = mini
    monkeypatch.setitem(sys.modules, "aiqvit.tasks.mini", package)
    monkeypatch.setitem(sys.modules, "aiqvit.tasks.mini.imagenet", mini)
    monkeypatch.chdir(tmp_path)
    task = ImageNet()
    assert (task.label, task.models, task.resolve("mini*")) == ("imagenet-mini", ("mini_vit",), ["mini_vit"])
    assert sorted({label for _, label in task._val}) == [0, 1, 2]
    subject = task.load("mini_vit")
    assert evaluate(task, subject, subject.model)["images"] == 15
    with pytest.raises(UserError, match="deit_tiny is no model of the embedded data: give --data DIR"):
        task.resolve("deit_tiny")


def test_usual_folder_wins_over_mini(monkeypatch, imagenet, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "imagenet").symlink_to(imagenet)
    monkeypatch.chdir(tmp_path)
    assert ImageNet().label == "imagenet"


@pytest.mark.parametrize(("name", "top1"), [("deit_tiny", 82.0), ("vit_tiny", 82.0)])
def test_real_weights_classify_real_images(shared, name, top1):
    """Every twentieth image only: the full figures are in the README."""
    task = ImageNet(str(shared / "data" / "imagenet"))
    subject = task.load(name, str(shared / "weights" / f"{name}_patch16_224.safetensors"))
    found = evaluate(task, subject, subject.model, limit=65, batch_size=33)
    assert found["top1"] == pytest.approx(top1, abs=12)
