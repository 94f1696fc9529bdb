"""The embedded mini ImageNet: pictures, folder layout, models and weights."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from aiqvit.tasks.mini import imagenet, shapes
from PIL import Image
from safetensors.torch import load_file

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIQVIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield imagenet.prepare()


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_layout_is_that_of_imagenet(root):
    for split, count in {"train": 52, "val": 50}.items():
        assert tuple(sorted(folder.name for folder in (root / split).iterdir())) == imagenet.SYNSETS
        assert all(len(list((root / split / wnid).glob("*.png"))) == count for wnid in imagenet.SYNSETS)
    picture = Image.open(next((root / "val" / imagenet.SYNSETS[3]).iterdir()))
    assert picture.mode == "RGB" and picture.size == (64, 64)


def test_prepare_writes_once_and_leaves_nothing_else(root, monkeypatch):
    monkeypatch.setenv("AIQVIT_CACHE", str(root.parent))
    before = root.stat().st_mtime_ns
    assert imagenet.prepare() == root
    assert root.stat().st_mtime_ns == before
    assert list(root.parent.iterdir()) == [root]


def test_two_writers_at_once_agree(tmp_path, monkeypatch):
    monkeypatch.setenv("AIQVIT_CACHE", str(tmp_path))
    monkeypatch.setattr(imagenet, "PER_CLASS", {"train": 2, "val": 1})
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: imagenet.prepare(), range(2))
    assert first == second
    assert list(tmp_path.iterdir()) == [first]
    assert len(list(first.rglob("*.png"))) == 3 * len(imagenet.SYNSETS)


def test_a_failed_draft_leaves_no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("AIQVIT_CACHE", str(tmp_path))
    monkeypatch.setattr(imagenet, "draw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        imagenet.prepare()
    assert list(tmp_path.iterdir()) == []


def test_pictures_follow_the_seed(root):
    rng = imagenet.generator("val")
    drawn = shapes.draw(np.zeros(50, int), rng.uniform(*imagenet.DIFFICULTY, 50), rng)
    stored = [pixels(path) for path in sorted((root / "val" / imagenet.SYNSETS[0]).iterdir())]
    assert np.array_equal(drawn, np.stack(stored))


def test_no_picture_is_in_both_splits(root):
    seen = {split: {pixels(p).tobytes() for p in (root / split).rglob("*.png")} for split in ("train", "val")}
    assert len(seen["train"]) == 1040 and len(seen["val"]) == 1000
    assert not seen["train"] & seen["val"]


@pytest.mark.parametrize("name", imagenet.MODELS)
def test_weights_fit_and_are_small(name):
    path = imagenet.weights(name)
    model = imagenet.build(name)
    model.load_state_dict(load_file(path), strict=True)
    assert path.stat().st_size <= 3 * MEGABYTE
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 20)


@pytest.mark.parametrize("name", imagenet.MODELS)
def test_accuracy_on_every_fifth_val_picture(name, root):
    files = [p for wnid in imagenet.SYNSETS for p in sorted((root / "val" / wnid).iterdir())[::5]]
    to_tensor = imagenet.transform(name)
    images = torch.stack([to_tensor(Image.open(p)) for p in files])  # (200, 3, 64, 64)
    labels = torch.arange(20).repeat_interleave(10)
    assert (imagenet.predict(imagenet.load(name), images) == labels).float().mean() > 0.6


def test_transform_uses_the_statistics_of_the_family():
    white = Image.new("RGB", (64, 64), "white")
    assert torch.allclose(imagenet.transform("mini_vit")(white), torch.ones(3, 64, 64))
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(imagenet.transform("mini_swin")(white)[:, 0, 0], expected)


def test_an_unknown_model_is_named_in_the_error():
    with pytest.raises(KeyError, match="mini_bert.*mini_vit"):
        imagenet.build("mini_bert")
