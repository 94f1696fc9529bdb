"""Which output of a head is which class: by wnid, by number, by sorted name, or as a list says."""

import pytest
import timm
import torch
from aiqvit.tasks.checkpoints.nearest import classes_in
from aiqvit.tasks.classes import INDICES, LISTED, NAMES, WNIDS, of_folders
from aiqvit.tasks.imagenet import ImageNet
from safetensors.torch import save_file
from timm.data import ImageNetInfo

from aiqvit.interfaces import UserError
from tests.conftest import MODEL
from tests.tasks.test_layout import folders

IMAGENET = ImageNetInfo().label_names()


def classes(names, root, wnids=None):
    return of_folders(names, root, "'data/val'", wnids)


def outputs(made, width):
    """Outputs of the names that were found."""
    found = dict(zip(made.names, made.outputs(width, "net"), strict=True))
    return [found[name] for name in made.found]


def test_wnids_in_timm_s_order_or_sorted_when_there_are_as_many(tmp_path):
    made = classes(("n02124075", "n01440764", "n01443537"), tmp_path)
    assert made.kind == WNIDS and made.names == tuple(IMAGENET)
    assert outputs(made, 1000) == [0, 1, 285] and outputs(made, 3) == [0, 1, 2]
    assert made.sentence(1000, "net") == ""
    assert made.sentence(3, "net") == ("net: 3 classes as the sorted names in 'data/val': n01440764, n01443537, "
                                       "n02124075")


@pytest.mark.parametrize(("width", "subset"), [(11821, "imagenet-12k"), (21843, "imagenet-21k-goog")])
def test_wnids_in_a_larger_head(tmp_path, width, subset):
    order = ImageNetInfo(subset).label_names()
    assert outputs(classes(order[5:8], tmp_path), width) == [5, 6, 7]
    with pytest.raises(UserError, match="has 'n99999999', which is no wnid of these"):
        classes((order[5], "n99999999"), tmp_path).outputs(width, "net")


def test_numbers(tmp_path):
    twelve = classes(map(str, range(12)), tmp_path)
    assert twelve.kind == INDICES and twelve.outputs(12, "net") == list(range(12))
    assert "the number that names a folder is the output" in twelve.sentence(12, "net")
    assert outputs(classes(("007", "02"), tmp_path), 10) == [7, 2]  # others need no folder
    counted_from_one = classes(("1", "2", "10"), tmp_path)
    assert outputs(counted_from_one, 3) == [0, 1, 2] and counted_from_one.found == ("1", "10", "2")
    assert counted_from_one.sentence(3, "net").endswith("(as text, so not by number: another order goes into "
                                                         "classes.txt)")


def test_names_are_sorted_as_torchvision_does(tmp_path):
    made = classes(("cow", "Bee", "ape"), tmp_path)
    assert made.kind == NAMES and made.names == ("Bee", "ape", "cow") and outputs(made, 3) == [0, 1, 2]


@pytest.mark.parametrize(("names", "width", "message"), [
    (("ape", "bee"), 10, "model 'net' has 10 classes, 'data/val' has 2 \\(ape, bee\\): give --weights of a model for "
                         "these classes, or a classes.txt in the data folder with the 10 names"),
    (("n01440764", "cat"), 1000, "has 'cat', which is no wnid of these"),
    (("n01440764",), 10, "has 1 \\(n01440764\\)"),
    (("3", "12"), 10, "has 2 \\(12, 3\\)"),
    (("ape",), 0, "model 'net' has 0 classes"),
])
def test_head_and_folder_that_do_not_agree(tmp_path, names, width, message):
    with pytest.raises(UserError, match=message):
        classes(names, tmp_path).outputs(width, "net")


def test_a_list_wins(tmp_path):
    (tmp_path / "classes.txt").write_text("\ufeffcow\r\nape\r\nbig bee\r\n\r\n", newline="", encoding="utf-8")
    made = classes(("ape", "cow"), tmp_path)
    assert made.kind == LISTED and made.outputs(3, "net") == [0, 1, 2] and outputs(made, 3) == [1, 0]
    assert "3 classes as listed in" in made.sentence(3, "net") and ": cow, ape, big bee" in made.sentence(3, "net")
    with pytest.raises(UserError, match="lists 3: list the 10 names in the order of the outputs"):
        made.outputs(10, "net")
    with pytest.raises(UserError, match="class 'dog' of .* is not one of the 3 names in .*classes.txt"):
        classes(("ape", "dog"), tmp_path)


@pytest.mark.parametrize(("content", "message"), [(b"", "it is empty"), (b"a\n\nb\n", "line 2 is empty"),
                                                  (b"a\nb\na\n", "names the class 'a' twice"),
                                                  (b"a\n\xff\n", "cannot be read as text")])
def test_lists_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        classes(("a",), tmp_path)


def test_the_head_is_told_by_the_weights():
    for name in (MODEL, "swin_tiny_patch4_window7_224"):
        assert classes_in(timm.create_model(name, num_classes=7).state_dict()) == 7
    assert classes_in({"blocks.0.weight": torch.zeros(3, 3)}) is None


def saved(path, classes, **options):
    save_file(timm.create_model(MODEL, num_classes=classes, **options).state_dict(), path)
    return str(path)


def test_a_model_of_three_classes_end_to_end(tmp_path):
    root = folders(tmp_path / "data")
    task = ImageNet(str(root))
    subject = task.load(MODEL, saved(tmp_path / "three.safetensors", 3))
    subject.model.head.bias.data += torch.tensor([0.0, 100.0, 0.0])  # always the second
    options = {"limit": None, "batch_size": 2, "device": "cpu", "progress": lambda items, *_, **__: items}
    assert task.evaluate(subject.model, subject, **options)["top1"] == pytest.approx(100 / 3)
    assert task.notes() == [f"{MODEL}: 3 classes as the sorted names in {str(root / 'val')!r}: ape, bee, cow"]
    (root / "classes.txt").write_text("bee\nelk\nape\ncow\n")
    with pytest.raises(UserError, match="has 3 classes, .*classes.txt' lists 4"):
        ImageNet(str(root)).load(MODEL, saved(tmp_path / "three.safetensors", 3))


def test_heads_that_do_not_agree_are_refused_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr("aiqvit.tasks.imagenet._pretrained", lambda *_: pytest.fail("fetched"))
    task = ImageNet(str(folders(tmp_path)))
    with pytest.raises(UserError, match="model 'deit_tiny' has 1000 classes, .* has 3 \\(ape, bee, cow\\)"):
        task.load("deit_tiny")


def test_the_file_decides_although_timm_has_other_classes(tmp_path, imagenet):
    """timm's own weights of this model have 11,821 classes."""
    name = "vit_medium_patch16_gap_240"
    save_file(timm.create_model(name, num_classes=1000).state_dict(), tmp_path / "w.safetensors")
    task = ImageNet(str(imagenet))
    assert task.resolve(name) == [name]
    assert task.load(name, str(tmp_path / "w.safetensors")).model.num_classes == 1000 and task.notes() == []


def test_the_order_of_classes_is_part_of_the_identity(tmp_path):
    root = folders(tmp_path / "data")

    def data():
        return ImageNet(str(root)).identity(0, 0, None).data

    first = data()
    assert data() == first
    (root / "classes.txt").write_text("ape\nbee\ncow\n")
    listed = data()
    (root / "classes.txt").write_text("bee\nape\ncow\n")
    assert len({first, listed, data()}) == 3
    (root / "classes.txt").unlink()
    (root / "val" / "asp").mkdir()  # no picture in it, but another order
    assert data() != first


def test_which_output_a_wnid_is_is_part_of_the_identity(tmp_path):
    def inputs(names):
        root = folders(tmp_path / "-".join(names), names)
        return ImageNet(str(root)).load(MODEL, saved(tmp_path / "w.safetensors", 2)).inputs

    assert inputs(("n01440764", "n02124075")) != inputs(("n02124075", "n02130308"))
    task = ImageNet(str(folders(tmp_path / "all", ("n01440764", "n02124075"))))
    assert task.load(MODEL, saved(tmp_path / "w.safetensors", 1000)).inputs == {}
