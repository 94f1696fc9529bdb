"""What of detectors and point transformers becomes an ONNX file is proved like any other export."""

import pytest
from aiqvit.tasks.coco import Coco
from aiqvit.tasks.modelnet40 import ModelNet40

from aiqvit.deploy.onnx.export import export_onnx
from aiqvit.deploy.proof.kernels import count_kernels
from aiqvit.deploy.proof.parity import layer_parity
from tests import test_contract as contract
from tests.deploy import cases


@pytest.fixture(scope="module")
def detector():
    return cases.quantized(cases.Case("minmax", "mini_mask_rcnn_swin", "4/8"))


def test_backbone_and_neck_of_a_detector(detector, tmp_path):
    task = Coco.__new__(Coco)
    part, pixels = task.deployable(detector, cases.samples(cases.given("mini_mask_rcnn_swin")))
    maps = detector.extract_feat(pixels)
    assert all((a == b).all() for a, b in zip(part(pixels), maps, strict=True))
    exported = export_onnx(part, tmp_path / "f.onnx", pixels)
    floats = {name: why for name, why in exported.products.items() if why != "integer"}
    assert set(floats.values()) == {"float: a convolution whose kernels overlap"} and len(floats) == 3
    assert not count_kernels(exported.path, exported.products).missed
    assert not layer_parity(part, exported.path, pixels.repeat(3, 1, 1, 1)).missed


def test_a_point_transformer_with_its_sampling_and_interpolation(tmp_path):
    name = "shapenetpart"
    model, points = contract.quantized("minmax", name, "4/6"), contract.data(name)
    part, inputs = ModelNet40.__new__(ModelNet40).deployable(model, points[:2])
    assert part is model
    exported = export_onnx(part, tmp_path / "p.onnx", inputs)
    assert "integer" in exported.products.values()
    assert not count_kernels(exported.path, exported.products).missed
    assert not layer_parity(model, exported.path, points[:3]).missed
