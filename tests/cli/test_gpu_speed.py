"""The GPU script runs on the CPU with a small network and few steps; no time is asserted."""

from argparse import Namespace

import timm
import torch

from aiqvit import speed
from aiqvit.cli import gpu_methods, gpu_speed, gpu_steps


def test_all_parts_run_on_the_cpu(capsys, monkeypatch):
    for name, value in {"IMAGES": 8, "EVALUATED": 16, "BATCH": 4, "STEPS": 2, "MEASURED": 3}.items():
        monkeypatch.setattr(gpu_speed, name, value)
    monkeypatch.setattr(gpu_methods, "MODELS", gpu_methods.MODELS[:1])
    monkeypatch.setattr(torch, "compile", lambda unit: unit)
    model = timm.create_model("deit_tiny_patch16_224", depth=1, embed_dim=24, num_heads=3, img_size=16, patch_size=8)
    args = Namespace(method="minmax", minutes="5")
    gpu_speed.show(model.eval().requires_grad_(False), args, torch.device("cpu"))
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("| mini_vit | MinMax | top1 |"))
    assert "+0.00 (" in row and "| yes |" in row
    for name in ("fp32 forward + backward", "bf16 forward + backward", "QDrop step", "BRECQ step", "AIQViT step",
                 "AIQViT step rank search", "GLF-Q step", "as it is", "torch.compile"):
        assert f"| {name} |" in out
    assert "AIQViT paper on 8 images:" in out and "left out" not in out


def test_what_no_longer_fits_is_named(capsys):
    assert speed.main(["--gpu", "--device", "cpu", "--minutes", "0"]) == 0
    assert capsys.readouterr().out.count("left out: no time") == 4


def test_without_a_gpu_it_is_one_sentence(capsys, monkeypatch):
    def none(*_, **__):
        raise RuntimeError("no driver")

    monkeypatch.setattr(gpu_speed.torch, "zeros", none)
    assert speed.main(["--gpu"]) == 2
    assert "there is no device 'cuda' here; --device cpu" in capsys.readouterr().err


def test_steps_left_out_count_as_the_median_step():
    assert gpu_steps.median([9.0, 9.0, 9.0, 1.0, 2.0, 3.0]) == 2.0
