"""The detectors: configs, opened blocks, roles, raw outputs."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn

pytest.importorskip("mmdet")

from aiqvit.tasks.detection import models  # noqa: E402
from aiqvit.tasks.mini import coco  # noqa: E402

from aiqvit.families.opening import open_model, quantize_model  # noqa: E402
from aiqvit.quant.anatomy import norm_readers, units_of  # noqa: E402
from aiqvit.quant.card import scheme_card  # noqa: E402
from aiqvit.quant.layers import QuantLayer, QuantMatMul  # noqa: E402
from tests.models import uniform  # noqa: E402

SCHEME = uniform()


@pytest.fixture(scope="module", autouse=True)
def ops():
    from aiqvit.tasks.detection.ops import install

    install()


@pytest.mark.parametrize("name", models.MODELS)
def test_configs_are_those_of_the_paper(name):
    config = models.config(name)
    assert config.backbone.depths == [2, 2, 18 if name.endswith("_s") else 6, 2] and config.backbone.embed_dims == 96
    assert config.neck.in_channels == [96, 192, 384, 768]
    heads = config.roi_head.bbox_head
    if not name.startswith("cascade"):
        assert heads.type == "Shared2FCBBoxHead" and heads.num_classes == 80
        return
    assert [head.bbox_coder.target_stds for head in heads] == [
        [0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
    for head in heads:
        assert (head.num_shared_convs, head.num_shared_fcs, head.fc_out_channels) == (4, 1, 1024)
        assert head.loss_bbox == {"type": "GIoULoss", "loss_weight": 10.0}
        assert not head.reg_class_agnostic and head.reg_decoded_bbox


def randomized(name):
    torch.manual_seed(0)
    model = coco.detector(name)
    for module in model.backbone.modules():
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.2)
        if isinstance(module, nn.LayerNorm):
            module.weight.data += 1
    return model


@pytest.fixture(scope="module")
def detector():
    return randomized("mini_mask_rcnn_swin")


@pytest.mark.parametrize("size", ((32, 32), (40, 52), (28, 36)))
def test_opened_and_quantized_backbones_give_what_mmdetections_gives(detector, size):
    model, images = copy.deepcopy(detector), torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model.backbone(images)
        opened = models.prepare(model).backbone(images)
        switched_off = quantize_model(model, SCHEME).backbone(images)
    for a, b, c in zip(expected, opened, switched_off, strict=True):
        torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(c, a, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", coco.MODELS)
def test_every_conv_linear_and_product_has_its_role(name):
    model = quantize_model(models.prepare(randomized(name)), SCHEME)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert all(isinstance(layer, QuantLayer) for layer in layers)
    assert sum(isinstance(m, QuantMatMul) for m in model.modules()) == 12
    assert len(list(norm_readers(model))) == 14
    counts = Counter({(r["kind"], r["role"]): r["sites"] for r in scheme_card(model) if r["sites"]})
    for role in ("query", "key", "value", "post_softmax", "proj_in", "post_gelu"):
        assert counts["activation", role] == 6
    assert counts["activation", "post_layernorm"] == 14 and counts["activation", "image"] == 1
    cascade = name.startswith("mini_cascade")
    assert counts["weight", "neck"] == 6 and counts["weight", "rpn"] == 1
    assert counts["weight", "head"] == 2 + 3 * (3 if cascade else 1)
    assert counts["weight", "roi"] == (3 * 7 if cascade else 4)


def test_units_follow_the_forward_order(detector):
    model, called = models.prepare(copy.deepcopy(detector)), []
    units = list(units_of(open_model(model)))
    for name in units:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    with torch.no_grad():
        model.extract_feat(torch.randn(1, 3, 32, 32))
    assert called == units and len(units) == 1 + 6 + 2 + 6
