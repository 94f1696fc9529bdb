"""Tiny folders in the official layouts of the point-cloud data sets."""

import json

import numpy as np
import pytest

CLASSES = ("airplane", "night_stand", "xbox")


@pytest.fixture
def small_shapes(tmp_path, monkeypatch):
    """Networks take 24 points of a shape; the cache is a folder of the test."""
    monkeypatch.setenv("AIQVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aiqvit.tasks.points.POINTS", 24)


@pytest.fixture
def modelnet(tmp_path):
    """Three classes with four training and two test shapes each, 30 points a shape."""
    root, rng = tmp_path / "modelnet", np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for i in range(6):
            np.savetxt(root / name / f"{name}_{i:04d}.txt", rng.standard_normal((30, 6)), "%.5f", ",")
    (root / "modelnet40_shape_names.txt").write_text("\n".join(CLASSES))
    for split, numbers in (("train", range(4)), ("test", range(4, 6))):
        (root / f"modelnet40_{split}.txt").write_text("\n".join(f"{n}_{i:04d}" for n in CLASSES for i in numbers))
    return root


@pytest.fixture
def shapenet(tmp_path):
    """Two of the sixteen categories, three training, one val and two test shapes each."""
    root, rng = tmp_path / "shapenet", np.random.default_rng(0)
    lists = {"train": [], "val": [], "test": []}
    (root / "train_test_split").mkdir(parents=True)
    for folder, first, parts in (("02773838", 4, 2), ("03642806", 28, 2)):
        (root / folder).mkdir()
        for i, split in enumerate(("train",) * 3 + ("val",) + ("test",) * 2):
            rows = np.concatenate([rng.standard_normal((30, 6)), first + rng.integers(0, parts, (30, 1))], axis=1)
            np.savetxt(root / folder / f"shape{i}.txt", rows, "%.6f")
            lists[split].append(f"shape_data/{folder}/shape{i}")
    (root / "synsetoffset2category.txt").write_text("Bag\t02773838\nLaptop\t03642806\n")
    for split, names in lists.items():
        (root / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(names))
    return root
