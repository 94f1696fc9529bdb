"""Every GELU that stands in front of a layer becomes a ReLU, whatever the family; the rest stays."""

import pytest
import torch
from timm.layers.activations import GELU, GELUTanh, QuickGELU
from torch import nn

from aiqvit.families.opening import open_model
from aiqvit.quant.anatomy import activations, layer_roles
from aiqvit.quant.surgery import model_sites
from aiqvit.transforms.relu import gelus, left_alone, replace_gelu
from tests.families.networks import NETWORKS, build, images
from tests.models import tiny_points

GELUS = (nn.GELU, GELU, GELUTanh, QuickGELU)
NORMED = ("vit_qk_norm",)  # a norm between the GELU and the layer
FUSED = ("vit_parallel_fused", "vit_diff_parallel")  # the layer reads attention too
GATED = ("vit_swiglu", "vit_swiglu_packed", "eva02", "eva02_scaled", "beit_shared")


def functions(model):
    """Name -> activation modules of a model, without those of the position bias."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (*GELUS, nn.ReLU))}


@pytest.mark.parametrize("name", NETWORKS)
def test_gelus_become_relus_and_sites_are_renamed(name):
    model = open_model(build(name))
    before, sites, state = functions(model), model_sites(model), {k: v.clone() for k, v in model.state_dict().items()}
    layers = [layer for layer, role in layer_roles(model).items() if role == "fc2"]
    reason = left_alone(model)
    assert [layer for layer, pair in sites.items() if pair[0].role == "post_gelu"] == list(dict(gelus(model)))
    found = replace_gelu(model)
    after = functions(model)
    if name in (*NORMED, *FUSED, *GATED):
        assert not found and before == after and sites == model_sites(model)
        assert f"in front of {layers[0]}," in reason
        return
    assert found == layers and not reason
    assert before.keys() == after.keys() and not any(isinstance(module, GELUS) for module in after.values())
    assert {layer: activations(model)[layer] for layer in found} == dict.fromkeys(found, "relu")
    renamed = model_sites(model)
    assert sites.keys() == renamed.keys()
    for layer, pair in sites.items():
        expected = "other" if layer in found else pair[0].role
        assert renamed[layer][0].role == expected and renamed[layer][1] == pair[1]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model_sites(open_model(model)) == renamed  # opened again it stays


@pytest.mark.parametrize("name", ["vit", "vit_parallel", "swin", "tv_vit", "beit"])
def test_layers_behind_get_what_a_relu_gives(name):
    model = open_model(build(name))
    seen, layer = [], replace_gelu(model)[0]
    model.get_submodule(layer).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(images())
    assert seen[0].min() == 0 and 0.2 < (seen[0] == 0).float().mean() < 0.8


def test_a_network_without_any_says_so():
    model = open_model(tiny_points("classifier"))
    assert not list(gelus(model)) and not replace_gelu(model)
    assert left_alone(model) == "no GELU stands in front of a layer"
