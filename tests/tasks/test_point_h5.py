"""HDF5 lists of the usual distribution."""

import sys

import numpy as np
import pytest
from aiqvit.tasks.modelnet40 import ModelNet40

from aiqvit.interfaces import UserError
from tests.points import weights

pytestmark = pytest.mark.usefixtures("small_shapes")


@pytest.fixture
def h5(tmp_path):
    h5py = pytest.importorskip("h5py")
    root, rng = tmp_path / "hdf5", np.random.default_rng(0)
    root.mkdir()
    (root / "shape_names.txt").write_text("chair\nsofa\n")
    for part, count in (("train", 6), ("test", 4)):
        (root / f"{part}_files.txt").write_text(f"data/modelnet40_ply_hdf5_2048/ply_data_{part}0.h5\n")
        with h5py.File(root / f"ply_data_{part}0.h5", "w") as file:
            file["data"] = rng.standard_normal((count, 40, 3)).astype("f4")
            file["normal"] = rng.standard_normal((count, 40, 3)).astype("f4")
            file["label"] = (np.arange(count) % 2)[:, None].astype("u1")
    return root


def test_hdf5_lists_are_read(h5, tmp_path):
    import h5py

    task = ModelNet40(str(h5))
    assert (task.label, task.train_images, task.val_images, task.classes) == ("modelnet40-h5", 6, 4, 2)
    points, targets, _ = next(task.batches(task.val, 4))
    assert points.shape == (4, 24, 6) and targets.tolist() == [0, 1, 0, 1]
    with h5py.File(h5 / "ply_data_test0.h5") as file:
        assert np.array_equal(points[2, :, 3:], file["normal"][2][np.arange(24) * 40 // 24])
    before = task.identity(2, 0, None)
    with h5py.File(h5 / "ply_data_test0.h5", "a") as file:
        file["data"][1, 0, 0] = 5
    assert ModelNet40(str(h5)).identity(2, 0, None).data != before.data
    subject = task.load("point_transformer", weights(tmp_path / "w.safetensors", channels=3, classes=2))
    assert task.calibration(subject, 6, 0)[0].shape == (6, 24, 3)


def test_wrong_hdf5_files_are_named(h5, monkeypatch):
    import h5py

    with h5py.File(h5 / "ply_data_test0.h5", "a") as file:
        file["data"][3, 1, 2] = np.nan
    with pytest.raises(UserError, match="ply_data_test0.h5', shape 3: a number is not finite"):
        ModelNet40(str(h5)).identity(0, 0, None)
    (h5 / "shape_names.txt").write_text("chair\n")
    with pytest.raises(UserError, match="shape 1 has the label 1, but shape_names.txt has 1 classes"):
        ModelNet40(str(h5))
    with h5py.File(h5 / "ply_data_train0.h5", "a") as file:
        del file["label"]
    with pytest.raises(UserError, match=r"train0.h5' holds data \(6, 40, 3\), normal .*: expected data"):
        ModelNet40(str(h5))
    (h5 / "ply_data_train0.h5").write_bytes(b"text")
    with pytest.raises(UserError, match="train0.h5' cannot be read as HDF5"):
        ModelNet40(str(h5))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"needs h5py: pip install 'aiqvit\[points\]'"):
        ModelNet40(str(h5))
    (h5 / "train_files.txt").write_text("gone.h5\n")
    with pytest.raises(UserError, match="train_files.txt' names 'gone.h5', but there is no file"):
        ModelNet40(str(h5))


# odd points


def test_hdf5_files_that_hold_too_much_or_are_named_twice(h5, monkeypatch):
    (h5 / "link.h5").symlink_to(h5 / "ply_data_train0.h5")
    (h5 / "train_files.txt").write_text("ply_data_train0.h5\nlink.h5\n")
    with pytest.raises(UserError, match="train_files.txt' names 'link.h5' twice: its shapes would count twice"):
        ModelNet40(str(h5))
    (h5 / "train_files.txt").write_text("ply_data_train0.h5\nply_data_test0.h5\n")
    assert ModelNet40(str(h5)).train_images == 10
    monkeypatch.setattr("aiqvit.tasks.point_h5.ENTRIES", 9)
    with pytest.raises(UserError, match="train_files.txt': its files hold more than 9 shapes"):
        ModelNet40(str(h5))
