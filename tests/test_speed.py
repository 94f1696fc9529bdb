"""The speed script measures what it says on a small model; no time is asserted."""

import pytest
import timm
import torch

from aiqvit import speed
from aiqvit.cli import step_speed


def test_every_measurement_runs_on_a_small_model(capsys):
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224", depth=6, embed_dim=24, num_heads=3, img_size=32, patch_size=8)
    model = model.eval().requires_grad_(False)
    images = torch.randn(8, 3, 32, 32)
    for seconds in (speed.calibration(model, images), speed.evaluation(model, images), speed.step(model, images, 4)):
        speed.show("title", seconds)
        assert all(value > 0 for value in seconds.values())
    assert capsys.readouterr().out.count("1.00 x") == 3


def test_steps_are_timed_where_a_method_asks_for_them_and_what_they_do_is_named(monkeypatch, capsys):
    model = timm.create_model("deit_tiny_patch16_224", depth=2, embed_dim=24, num_heads=3, img_size=32, patch_size=8)
    titles = dict(step_speed.methods(4))
    assert {"QDrop", "QDrop, bf16", "BRECQ", "GLF-Q, bf16", "AIQViT"} < titles.keys()
    some = {title: titles[title] for title in ("QDrop", "AIQViT, bf16")}
    monkeypatch.setattr(step_speed, "methods", lambda _: some.items())
    step_speed.show([("small", model, "blocks.1", torch.randn(4, 3, 32, 32))])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith(("| QDrop", "| AIQ"))]
    assert len(rows) == 2 and all(float(row[1]) > 0 and float(row[2]) > 0 for row in rows)
    assert all(sum(int(share.strip(" |%")) for share in row[3:]) == pytest.approx(100, abs=4) for row in rows)
    spent = step_speed.Operators()
    assert list(spent(range(2))) == [0, 1] and not spent.seconds
    assert [model.get_submodule(unit) is not None for _, model, unit, _ in speed.blocks()] == [True] * 3


def test_exports_beside_the_runtime_s_own_quantization(capsys):
    pytest.importorskip("onnxruntime")
    assert speed.main(["--deploy", "--model", "test_vit", "--method", "minmax,fp32", "--bits", "4/8", "--batch", "1,3",
                       "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert [name for name in rows if name in ("fp32", "MinMax 4/8", "quantize_dynamic", "quantize_static")] == [
        "fp32", "MinMax 4/8", "quantize_dynamic", "quantize_static"]
    assert "1.000" in rows["fp32"] and rows["fp32"].count("1.00 x") == 2 and rows["fp32"].split()[-1].startswith("0/")
    whole, part = rows["MinMax 4/8"].split()[-1].split("/")
    assert whole == part and float(rows["MinMax 4/8"].split()[3]) < 0.4
    assert "batch 3, 1 thread" in out and "Medians of 1 rounds in turn" in out and "onnxruntime " in out
    assert "\nFull precision 4/8 is left out: the model is not quantized" in out


@pytest.mark.parametrize(("arguments", "message"), [
    (["--rounds", "5"], "--rounds belongs to --deploy"),
    (["--steps", "--gpu"], "--gpu: not allowed with argument --steps"),
    (["--deploy", "--model", "nothing"], "--model 'nothing': timm has no such model"),
    (["--deploy", "--batch", "0"], "--batch '0': expected a whole number from 1 to 1024"),
    (["--deploy", "--method", "nothing"], "unknown method 'nothing'"),
    (["--deploy", "--bits", "9/9"], "bits '9/9': expected weights/activations"),
])
def test_wrong_input_is_one_sentence(arguments, message, capsys):
    assert speed.main(arguments) == 2
    assert message in capsys.readouterr().err
