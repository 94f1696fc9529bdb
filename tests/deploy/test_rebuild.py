"""Recipes: found for a network only where they make the same one again, and harmless whatever they say."""

from pathlib import Path

import pytest
import timm
import torch
from timm.layers import PatchDropout
from torch import nn
from torchvision import models

from aiqvit.deploy import rebuild
from aiqvit.interfaces import UserError
from tests.fuzz.test_readers import watched

POINTS = {"builder": "modelnet40", "channels": 6, "classes": 40, "widths": [32, 64], "dim": 64, "grouped": True,
          "hidden": []}
SMALL = {"a": torch.zeros(1000), "b": torch.zeros(1000, dtype=torch.uint8)}
MADE = {  # how a network was made -> what its recipe has
    "timm": (lambda: timm.create_model("test_vit"), {}),
    "classes": (lambda: timm.create_model("test_vit", num_classes=10), {"num_classes": 10}),
    "no head": (lambda: timm.create_model("test_vit", num_classes=0), {"num_classes": 0}),
    "size": (lambda: timm.create_model("test_vit", img_size=96), {"img_size": [96, 96]}),
    "channels": (lambda: timm.create_model("test_vit", in_chans=1), {"in_chans": 1}),
    "pool": (lambda: timm.create_model("test_vit", global_pool="avg"), {"global_pool": "avg"}),
    "drop path": (lambda: timm.create_model("test_vit", drop_path_rate=0.1, drop_rate=0.1), {}),
    "swin": (lambda: timm.create_model("swin_tiny_patch4_window7_224", num_classes=5), {"num_classes": 5}),
    "dinov2": (lambda: timm.create_model("vit_small_patch14_dinov2", img_size=70), {"img_size": [70, 70]}),
    "torchvision": (lambda: models.vit_b_32(num_classes=5), {"num_classes": 5}),
    "torchvision swin": (lambda: models.swin_t(), {"num_classes": 1000}),
}


def changed_norm(model):
    model.norm = nn.LayerNorm(64, eps=1e-3)


def changed_act(model):
    model.blocks[0].mlp.act = nn.ReLU()


def more_blocks(model):
    model.blocks.append(nn.Linear(64, 64))


def fewer_blocks(model):
    del model.blocks[-1]


def changed_scale(model):
    model.blocks[1].attn.scale = 1.0


def reset_head(model):
    model.head = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 3))


def dropped_patches(model):
    model.patch_drop = PatchDropout(0.5)


@pytest.mark.parametrize("name", MADE)
def test_a_network_of_a_library_has_a_recipe_that_makes_it_again(name):
    make, expected = MADE[name]
    with torch.device("meta"), rebuild._Rows():
        network = make()
        recipe = rebuild.recipe_of(network)
        again = rebuild.made(recipe)
    assert recipe["builder"] == ("torchvision" if "torchvision" in name else "timm")
    assert recipe["arguments"].items() >= expected.items()
    shapes = [{key: tensor.shape for key, tensor in net.state_dict().items()} for net in (network, again)]
    assert shapes[0] == shapes[1] and type(network) is type(again)


@pytest.mark.parametrize("change", (changed_norm, changed_act, more_blocks, fewer_blocks, changed_scale, reset_head,
                                    dropped_patches))
def test_a_network_that_was_changed_has_none(change):
    network = timm.create_model("test_vit")
    assert rebuild.recipe_of(network)
    change(network)
    assert rebuild.recipe_of(network) == {}


def test_how_pictures_are_prepared_goes_with_it():
    network = timm.create_model("test_vit")
    network.pretrained_cfg = {**network.pretrained_cfg, "mean": (0.1, 0.2, 0.3), "crop_pct": 0.5}
    again = rebuild.made(rebuild.recipe_of(network))
    assert again.pretrained_cfg["mean"] == (0.1, 0.2, 0.3) and again.pretrained_cfg["crop_pct"] == 0.5


def timm_recipe(name="test_vit", **arguments):
    return {"builder": "timm", "name": name, "arguments": arguments}


HOSTILE = {
    "no builder": {"name": "test_vit"}, "a module": {"builder": "os.system", "name": "true"},
    "a number": {"builder": 3}, "lines": {"builder": "x\ny" * 1000}, "a method": {"builder": "fp32"},
    "no name": {"builder": "timm"},
    "another name": timm_recipe("nope"), "a hub": timm_recipe("hf-hub:timm/vit_tiny_patch16_224"),
    "a folder": timm_recipe("local-dir:/etc"), "a tag": timm_recipe("vit_tiny_patch16_224.nope"),
    "a path": timm_recipe("../../x"), "huge": timm_recipe("vit_giant_patch14_dinov2"),
    "classes": timm_recipe(num_classes=65536, in_chans=65536), "more classes": timm_recipe(num_classes=10**9),
    "no size": timm_recipe(img_size=[0, 0]), "size": timm_recipe("beit_base_patch16_224", img_size=[65536, 65536]),
    "windows": timm_recipe("swin_tiny_patch4_window7_224", img_size=[8192, 8192]),
    "positions": timm_recipe("vit_tiny_patch16_224", img_size=[65536, 65536]), "pool": timm_recipe(global_pool="x\ny"),
    "text": timm_recipe(num_classes="10"), "true": timm_recipe(num_classes=True), "path": timm_recipe(pretrained=True),
    "checkpoint": timm_recipe(checkpoint_path="/etc/passwd"), "config": timm_recipe(pretrained_cfg={}),
    "unknown": {**timm_recipe(), "x": 1}, "inputs": {**timm_recipe(), "inputs": {"mean": ["a"]}},
    "torchvision": {"builder": "torchvision", "name": "vit_h_14"}, "detector": {"builder": "torchvision",
                                                                                  "name": "maskrcnn_resnet50_fpn"},
    "widths": POINTS | {"widths": [65536] * 16},
    "many widths": POINTS | {"widths": [4] * 1000}, "no widths": POINTS | {"widths": []},
    "segmenter's": POINTS | {"bottleneck": 3}, "other": POINTS | {"x": 3}, "wide": POINTS | {"dim": 65536},
    "mini": {"builder": "imagenet", "model": "x"}, "a list": {"builder": "imagenet", "model": ["x"]},
    "no model": {"builder": "imagenet"},
    "detectors": {"builder": "coco", "model": "mask_rcnn_swin_t", "classes": 10**5},
    "no classes": {"builder": "coco", "model": "mask_rcnn_swin_t", "classes": -1},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_recipes_are_one_sentence_and_take_no_memory(what, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", None)  # nothing is fetched
    with watched(), pytest.raises(UserError) as error:
        rebuild.build(HOSTILE[what], SMALL, Path("q.safetensors"))
    assert str(error.value).startswith("cannot build the network of 'q.safetensors': ")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_no_recipe_asks_for_the_network():
    with pytest.raises(UserError, match=r"nothing builds by name: hand over a fresh instance of it, load\(path, model"):
        rebuild.build({}, {}, Path("q.safetensors"))


@pytest.mark.parametrize("recipe", (timm_recipe(), POINTS, {"builder": "imagenet", "model": "mini_swin"}))
def test_good_recipes_are_built(recipe):
    assert not rebuild.build(recipe, {"a": torch.zeros(10**5, dtype=torch.uint8)}, Path("q")).training
