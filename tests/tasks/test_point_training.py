"""Training of Point Transformers: goes on where it was, says what is wrong, augments points alone."""


import pytest
import torch
from aiqvit.tasks import train

VAL = "train_test_split/shuffled_val_file_list.json"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, and few points a shape."""
    monkeypatch.setenv("AIQVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aiqvit.tasks.points.POINTS", 24)
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ("modelnet40", "shapenetpart"))
def test_training_goes_on_with_the_same_numbers(name, modelnet, shapenet, tmp_path, monkeypatch, capsys):
    data = {"modelnet40": modelnet, "shapenetpart": shapenet}[name]

    def call(out, *more):
        sizes = ["--epochs=3", "--batch-size=3", "--dim=8", "--widths=8,16", "--threads=1", "--device=cpu"]
        return train.main(["--task", name, "--data", str(data), "--out", str(tmp_path / out), *sizes, *more])

    assert call("whole") == 0
    real, seen = train.Trainer.step, []

    def interrupted(self):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(real(self))
        return seen[-1]

    monkeypatch.setattr(train.Trainer, "step", interrupted)
    assert call("parts") == 130
    monkeypatch.setattr(train.Trainer, "step", real)
    assert call("parts") == 0
    whole, parts = (torch.load(tmp_path / out / "last.pt", weights_only=True) for out in ("whole", "parts"))
    assert all(torch.equal(whole["model"][key], value) for key, value in parts["model"].items())
    assert sorted(p.name for p in (tmp_path / "whole").iterdir()) == ["best.safetensors", "last.pt"]
    assert call("parts", "--seed", "1") == 2
    assert "trained with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "data folder 'nowhere' does not exist"),
        (["--epochs", "0"], "--epochs 0: expected a whole number from 1"),
        (["--device", "cuda"], "device 'cuda' is not there"),
    ],
)
def test_wrong_input_of_training_is_one_sentence(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train.main(["--task", "modelnet40", "--device", "cpu", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_augmentation_keeps_normals_and_drops_to_the_first_point():
    points = torch.randn(4, 50, 6)
    moved = train.augment(points, False, torch.Generator().manual_seed(0))
    assert torch.equal(moved[..., 3:], points[..., 3:])
    scale = (moved[:, 1:, :3] - moved[:, :1, :3]) / (points[:, 1:, :3] - points[:, :1, :3])
    assert (scale.amax((1, 2)) - scale.amin((1, 2))).max() < 0.01 and scale.min() > 0.79 and scale.max() < 1.26
    dropped = train.augment(points, True, torch.Generator().manual_seed(0))
    same = (dropped == dropped[:, :1]).all(-1).float().mean(1)
    assert same.max() > 0.2 and ((dropped == moved).all(-1) | (dropped == dropped[:, :1]).all(-1)).all()
