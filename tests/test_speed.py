"""The speed script measures what it says on a small model; no time is asserted."""

import timm
import torch

from aiqvit import speed


def test_every_measurement_runs_on_a_small_model(capsys):
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224", depth=6, embed_dim=24, num_heads=3, img_size=32, patch_size=8)
    model = model.eval().requires_grad_(False)
    images = torch.randn(8, 3, 32, 32)
    for seconds in (speed.calibration(model, images), speed.evaluation(model, images), speed.step(model, images, 4)):
        speed.show("title", seconds)
        assert all(value > 0 for value in seconds.values())
    assert capsys.readouterr().out.count("1.00 x") == 3
