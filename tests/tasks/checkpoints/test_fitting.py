"""States of other libraries and resolutions fit timm models, and what does not fit is told."""

import re

import pytest
import timm
import torch
from aiqvit.tasks.checkpoints.containers import unwrapped
from aiqvit.tasks.checkpoints.fitting import for_timm
from aiqvit.tasks.checkpoints.nearest import candidates, classes_in, look
from aiqvit.tasks.weights import load_state
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from aiqvit.interfaces import UserError

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}
SWIN = {"img_size": 32, "patch_size": 2, "embed_dim": 8, "depths": (1, 2), "num_heads": (1, 2), "num_classes": 5}


def vit(**options):
    torch.manual_seed(0)
    return VisionTransformer(**VIT | options).eval()


def swin(window=4, **options):
    torch.manual_seed(0)
    return SwinTransformer(**SWIN | options, window_size=window).eval()


def to_transformers(state, family):
    """The opposite of what is tested, written from the names of the other library."""
    found, swin = {}, family == "swin"
    for key, value in state.items():
        head = {"head": "classifier", "head.fc": "classifier", "head_dist": "distillation_classifier"}
        module, _, kind = key.rpartition(".")
        if module in head:
            name = "cls_classifier" if module == "head" and "head_dist.weight" in state else head[module]
            found[f"{name}.{kind}"] = value
            continue
        for pattern, new in ((r"^cls_token$", "embeddings.cls_token"),
                             (r"^dist_token$", "embeddings.distillation_token"),
                             (r"^pos_embed$", "embeddings.position_embeddings"), (r"^norm\.", "layernorm."),
                             (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
                             (r"^patch_embed\.norm", "embeddings.norm"), (r"^blocks", "encoder.layer"),
                             (r"^layers\.(\d+)\.downsample", lambda m: f"encoder.layers.{int(m[1]) - 1}.downsample"),
                             (r"^layers\.", "encoder.layers."), (r"\.norm1\.", ".layernorm_before."),
                             (r"\.norm2\.", ".layernorm_after."), (r"\.mlp\.fc1\.", ".intermediate.dense."),
                             (r"\.mlp\.fc2\.", ".output.dense."), (r"\.attn\.proj\.", ".attention.output.dense."),
                             (r"\.attn\.relative", ".attention.self.relative")):
            key = re.sub(pattern, new, key)
        if ".attn.qkv." in key:
            inner = "self" if swin else "attention"
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{family}.{key.replace('attn.qkv', f'attention.{inner}.{part}')}"] = piece
        else:
            found[f"{family}.{key}"] = value
    return found


@pytest.mark.parametrize(("net", "family"), [(vit(), "vit"), (swin(), "swin"),
                                             (VisionTransformerDistilled(**VIT), "deit")])
@pytest.mark.parametrize("outer", ["", "model.", "student.encoder."])
def test_names_of_transformers(net, family, outer):
    own = net.state_dict()
    foreign = {outer + k: v for k, v in to_transformers(own, family).items()}
    foreign |= {f"{outer}{family}.pooler.dense.weight": torch.zeros(1)} if family != "swin" else {
        f"{outer}swin.encoder.layers.0.blocks.0.attention.self.relative_position_index": torch.zeros(1)}
    state, notes = for_timm(foreign, net)
    assert notes == ["names of the transformers library converted to timm's"]
    load_state(net, state, "x")
    assert all(torch.equal(state[k], own[k]) for k in own)


def test_position_embeddings_of_another_resolution():
    state = vit().state_dict()
    big = vit(img_size=48)
    found, notes = for_timm(state, big)
    load_state(big, found, "x")
    assert notes == ["position embedding interpolated from 4 x 4 to 6 x 6 patches"]
    assert torch.equal(found["pos_embed"][:, :1], state["pos_embed"][:, :1])  # the class token has no place
    distilled = VisionTransformerDistilled(**VIT | {"img_size": 48})
    small = VisionTransformerDistilled(**VIT).state_dict()
    found, notes = for_timm(small, distilled)
    load_state(distilled, found, "x")
    assert "from 4 x 4 to 6 x 6" in notes[0] and torch.equal(found["pos_embed"][:, :2], small["pos_embed"][:, :2])


def test_bias_tables_of_another_window():
    net = swin(8, img_size=64)
    found, notes = for_timm(swin(4).state_dict(), net)
    load_state(net, found, "x")
    assert notes == ["3 relative position bias tables interpolated from windows of 4 to 8"]


def test_transformers_and_another_resolution_at_once():
    net = vit(img_size=48)
    found, notes = for_timm(to_transformers(vit().state_dict(), "vit"), net)
    load_state(net, found, "x")
    assert len(notes) == 2


def test_prefixes_and_what_stands_beside():
    net = vit()
    state = {f"encoder.trunk.{k}": v for k, v in net.state_dict().items()} | {"loss.weight": torch.ones(3)}
    found, notes = for_timm(state, net)
    load_state(net, found, "x")
    assert notes == ["keys taken from behind 'encoder.trunk.'", "1 key beside the model is left out: loss.weight"]
    state = {f"backbone.{k}" if not k.startswith("head") else k: v for k, v in net.state_dict().items()}
    load_state(net, for_timm(state, net)[0], "x")


def test_what_stands_beside_a_wrapped_network():
    net = vit()
    own = net.state_dict()
    counted, _ = unwrapped({f"module.{k}": v for k, v in own.items()} | {"n_averaged": torch.tensor(3)})
    found, notes = for_timm(counted, net)
    load_state(net, found, "x")
    assert notes == ["1 key beside the model is left out: n_averaged"]
    headed, _ = unwrapped({k if k.startswith("head") else f"model.{k}": v for k, v in own.items()})
    load_state(net, for_timm(headed, net)[0], "x")
    with pytest.raises(UserError, match=r"1 unexpected \(reg_token\)"):  # of another model, so it is not left out
        other = {f"model.{k}": v for k, v in {**own, "reg_token": own["cls_token"]}.items()}
        load_state(net, for_timm(unwrapped(other)[0], net)[0], "x")


@pytest.mark.parametrize("other", [{"patch_size": 4}, {"embed_dim": 48}, {"depth": 3}, {"num_classes": 7}])
def test_another_model_is_refused(other):
    net = vit()
    with pytest.raises(UserError, match=r"'x' do not fit the model, which has 32 tensors: \d+ (mis-shaped|unexpected)"):
        load_state(net, for_timm(vit(**other).state_dict(), net)[0], "x")


def shapes(name):
    with torch.device("meta"):
        return timm.create_model(name, num_classes=7).state_dict()


@pytest.mark.parametrize(("timm_name", "name"), [
    ("deit_tiny_patch16_224", "deit_tiny"), ("vit_small_patch16_224", "deit_small"),
    ("vit_base_patch16_384", "deit_base"),
    ("vit_base_patch32_224", "vit_base_patch32_224"), ("deit_small_distilled_patch16_224",) * 2,
])
def test_the_model_that_would_fit(timm_name, name):
    state = shapes(timm_name)
    assert candidates(state)[0] == name and f"try --model {name}" in look(state) and classes_in(state) == 7
    assert candidates(to_timm_prefix(state))[0] == name or "dist_token" in state


def to_timm_prefix(state):
    return {f"model.{k}": v for k, v in state.items()}


def test_networks_that_are_something_else():
    assert "ResNet" in look({"layer1.0.conv1.weight": torch.ones(1)})
    assert "detector" in look({"roi_head.bbox_head.fc_cls.weight": torch.ones(1)})
    assert "width 24, depth 2 and patch size 8" in look(vit().state_dict())
    assert look({}) == look({"a": torch.ones(1)}) == "" and classes_in({}) is None
    assert classes_in(swin().state_dict()) == 5 and candidates(swin().state_dict()) == []
    assert classes_in(to_transformers(vit().state_dict(), "vit")) == 5
