"""One network with a file written by hand, and one mini ViT with exported ones, for all tests of the proof."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from aiqvit.deploy.onnx.export import export_fp32, export_onnx
from tests.deploy.proof import handmade
from tests.test_contract import data, quantized, trained

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """`model`, `path` of its file written by hand, and `images` (tokens)."""
    model = handmade.network()
    path = handmade.export(model, tmp_path_factory.mktemp("handmade") / "handmade.onnx")
    return SimpleNamespace(model=model, path=path, images=handmade.tokens())


@pytest.fixture(scope="session")
def mini(tmp_path_factory):
    """mini_vit quantized by MinMax at 4/8: `model`, what was `exported`, the `fp32` file, and `images`."""
    folder: Path = tmp_path_factory.mktemp("mini")
    model, images = quantized("minmax", "mini_vit", "4/8"), data("mini_vit")
    return SimpleNamespace(model=model, exported=export_onnx(model, folder / "mini.onnx", images[:1]), images=images,
                           fp32=export_fp32(trained("mini_vit"), folder / "fp32.onnx", images[:1]))
