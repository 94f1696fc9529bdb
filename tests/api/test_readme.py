"""The README's example of one's own model runs as it stands, with a smaller network in place of the pretrained one."""

import re
from pathlib import Path

import timm
import torch

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_example_runs(monkeypatch, tmp_path, capsys):
    (source,) = re.findall(r"```python\n(import aiqvit.*?)```", README.read_text(), re.S)
    assert len(source.strip().splitlines()) <= 10 + 1  # and an empty line
    real = timm.create_model

    def small(name, pretrained=False, **options):
        torch.manual_seed(0)
        return real("test_vit", img_size=224) if pretrained else real(name, **options)

    monkeypatch.setattr(timm, "create_model", small)
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "README.md", "exec"), {})  # noqa: S102 -- our own text
    said = capsys.readouterr().out
    assert "RepQ-ViT, 8/8 bits" in said and "products on integer kernels" in said and "MISSED" not in said
    assert float(said.split()[-1]) >= 0.9
    assert {path.name for path in tmp_path.iterdir()} == {"q.safetensors", "q.onnx"}
