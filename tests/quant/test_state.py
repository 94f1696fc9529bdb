"""Quantized models and units load into fresh skeletons, and say which site differs where they cannot."""

import copy
import io

import pytest
import torch

from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import UserError
from aiqvit.quant.quantizers import LogSqrt2, Signed, TwinSoftmax, Uniform
from aiqvit.quant.site import spec
from aiqvit.quant.state import load_state, saved_state, scheme_of
from aiqvit.quant.surgery import calibrate
from aiqvit.recon.lowrank import LowRank
from aiqvit.transforms.reparam import reparameterize
from tests.models import FAMILIES, channelwise, images, tiny, uniform

SCHEME = uniform(post_layernorm=channelwise(), post_softmax=spec(LogSqrt2, 4), query=spec(Uniform, 4, 1),
                 post_gelu=spec(Signed, 4))


def quantized(family: str):
    model = quantize_model(tiny(family), SCHEME)
    with torch.no_grad():
        calibrate(model, lambda m: m(images()))
        reparameterize(model)  # other weights, a bias more, ranges of another shape
    model.get_submodule("patch_embed.proj").offset = torch.rand_like(model.get_submodule("patch_embed.proj").weight)
    return model


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_state_loads_bit_for_bit_into_a_skeleton_of_its_scheme(family):
    model = quantized(family)
    state = through_a_file(saved_state(model))
    for scheme in (SCHEME, scheme_of(state)):
        fresh = quantize_model(tiny(family), scheme)
        for parameter in fresh.parameters():
            parameter.data.normal_()  # nothing of it is left
        load_state(fresh, state)
        with torch.no_grad():
            assert torch.equal(fresh(images()), model(images()))
        assert str(saved_state(fresh)) == str(state)


def test_the_site_that_differs_is_named_and_nothing_is_changed():
    state = saved_state(quantized("vit"))
    others = {
        "has format LogSqrt2 instead of TwinSoftmax": uniform(post_softmax=spec(TwinSoftmax, 4)),
        "blocks.0.attn.av.left_quantizer has bits 4 instead of 3": uniform(post_softmax=spec(LogSqrt2, 3)),
        "has options": uniform(post_softmax=spec(LogSqrt2, 4, official_levels=True)),
    }
    for message, scheme in others.items():
        fresh = quantize_model(tiny("vit"), scheme)
        before = copy.deepcopy(fresh.state_dict())
        with pytest.raises(UserError, match="another scheme: blocks.0.attn.av.left_quantizer") as error:
            load_state(fresh, state)
        assert message in str(error.value)
        assert str(fresh.state_dict()) == str(before)


def test_sites_and_tensors_of_another_model_are_named():
    state, fresh = saved_state(quantized("vit")), quantize_model(tiny("swin"), SCHEME)
    with pytest.raises(UserError, match="scheme: the site blocks.0.attn.av.left_quantizer is not in this model"):
        load_state(fresh, state)
    fresh = quantize_model(tiny("vit"), SCHEME)
    less = {key: value for key, value in state.items() if not key.startswith("head.")}
    with pytest.raises(UserError, match="the site head.input_quantizer is not in the state"):
        load_state(fresh, less)
    with pytest.raises(UserError, match="is not in the state"):
        quantize_model(tiny("swin"), scheme_of(state))
    state["cls_token"] = torch.zeros(1, 1, 5)
    with pytest.raises(UserError, match="does not fit this model: .*cls_token"):
        load_state(fresh, state)


def test_compensation_has_to_be_merged_before_a_state_is_saved():
    model = quantized("vit")
    layer = model.blocks[1].mlp.fc1
    layer.compensation = LowRank(layer.weight, 2)
    with pytest.raises(UserError, match="blocks.1.mlp.fc1: its compensation is still being trained"):
        saved_state(model)
