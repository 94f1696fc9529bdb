"""The ONNX file from Python: written, proved, and what stands against it said in one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

import aiqvit
from aiqvit.api import exporting
from aiqvit.interfaces import UserError

X = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model("test_vit", img_size=32, depth=1, num_classes=10).eval()


@pytest.fixture(scope="module")
def quantized(network):
    return aiqvit.quantize(network, X, "minmax", "4/8", progress=False)


@pytest.fixture(scope="module")
def exported(quantized, network, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "q.onnx"
    return path, aiqvit.export(quantized, path, X, latency=True, fp32=network, progress=False)


def test_the_proof_has_all_its_parts_and_the_file_says_what_it_is(exported):
    import onnx

    path, proof = exported
    assert proof.missed == [] and proof.size.file == path.stat().st_size
    assert proof.latency is not None
    assert "8 of 8 products on integer kernels" in str(proof)  # patch embedding, head, four layers and two products
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert said["aiqvit.method"] == "MinMax" and said["aiqvit.bits"] == "4/8"
    assert said["aiqvit.model"] == "VisionTransformer" and said["aiqvit.version"] == aiqvit.__version__
    assert "random" not in str(proof)


def test_samples_of_several_sizes_are_refused(quantized, tmp_path):
    with pytest.raises(UserError, match=r"samples of several sizes, \(3, 32, 32\) and \(3, 40, 32\)"):
        aiqvit.export(quantized, tmp_path / "q.onnx", [X, torch.randn(2, 3, 40, 32)])
    assert list(tmp_path.iterdir()) == []


def test_the_model_stays_as_it_was(quantized, network, exported):
    fresh = aiqvit.quantize(network, X, "minmax", "4/8", progress=False)
    assert torch.equal(fresh(X), quantized(X)) and list(dict(fresh.named_modules())) == list(
        dict(quantized.named_modules()))


def test_how_pictures_are_prepared_goes_with_the_file():
    q = aiqvit.quantize(timm.create_model("test_vit"), torch.randn(2, 3, 160, 160), "minmax", progress=False)
    said = exporting.properties(exporting.info_of(q))
    assert json.loads(said["aiqvit.inputs"])["input_size"] == [3, 160, 160]


def test_what_misses_its_target_is_warned_of(quantized, tmp_path, monkeypatch):
    found = exporting.prove

    def wrong(model, exported, *rest, **options):
        return found(model, replace(exported, products=exported.products | {"blocks.9": "integer"}), *rest, **options)

    monkeypatch.setattr(exporting, "prove", wrong)
    with pytest.warns(UserWarning, match="1 product is not on integer kernels"):
        aiqvit.export(quantized, tmp_path / "q.onnx", X, progress=False)


@pytest.mark.parametrize(("options", "said"), [
    ({"opset": 20}, "opset"),
    ({"data": X[:, :1]}, "does not take a batch of shape"),
    ({"data": X[:0]}, "no samples"),
    ({"path": "."}, "cannot write"),
    ({"target": "tensorrt"}, "target"),
    ({"latency": True}, "hand over the network of full precision"),
])
def test_wrong_input_is_one_sentence_and_no_file(options, said, quantized, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        aiqvit.export(quantized, options.pop("path", "q.onnx"), options.pop("data", X), progress=False, **options)
    assert not list(Path(tmp_path).iterdir())


def test_a_network_of_full_precision_is_refused(network, tmp_path):
    with pytest.raises(UserError, match="is no quantized model"):
        aiqvit.export(network, tmp_path / "q.onnx", X)
