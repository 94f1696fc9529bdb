"""ERQ and GPTAQ on tiny models: what each step does to the network, and what stays in full precision."""

from dataclasses import replace

import pytest
import torch
from aiqvit.baselines.erq import ERQ
from aiqvit.baselines.gptaq import GPTAQ

from aiqvit.interfaces import Bits, Diverged, Job
from aiqvit.quant.card import scheme_card, sites
from aiqvit.quant.surgery import quant_layers
from tests.models import FAMILIES, images, tiny

METHODS = {"erq": ERQ(images=16, init_images=8), "gptaq": GPTAQ(images=16, init_images=8)}


def job(family, weight=4, activation=4, rules=None):
    return Job(tiny(family), None, [images(8, 0), images(8, 1)], Bits(weight, activation), bit_rules=rules or {})


def error_of(method, family):
    """Relative squared error of fc1's output in a first block on the calibration images, all else in full precision."""
    name = {"swin": "layers.0.blocks.0.mlp.fc1"}.get(family, "blocks.0.mlp.fc1")
    work, outputs = job(family, 32, 32, {name: "3/3"}), []
    x = torch.cat(list(work.calibration))
    for net in (tiny(family), method.quantize(work)):
        net.get_submodule(name).register_forward_hook(lambda _, __, y: outputs.append(y))
        with torch.no_grad():
            net(x)
    return ((outputs[1] - outputs[0]).square().sum() / outputs[0].square().sum()).item()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_step_of_erq_brings_a_layer_nearer_to_full_precision(family):
    steps = ({"activation_step": False, "weight_step": False}, {"weight_step": False}, {"refinement": 0}, {})
    nearest, activation, ridge, refined = (error_of(replace(METHODS["erq"], coe=20.0, **s), family) for s in steps)
    assert ridge < activation < nearest and refined < activation


@pytest.mark.parametrize("family", FAMILIES)
def test_gptaq_brings_a_layer_nearer_to_full_precision_than_nearest_rounding(family):
    nearest = replace(METHODS["gptaq"], damping=1e6)
    assert error_of(METHODS["gptaq"], family) < 0.95 * error_of(nearest, family)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_values_of_their_codes(method, family):
    net = METHODS[method].quantize(job(family))
    for name, layer in quant_layers(net):
        codes = layer.weight_quantizer.encode(layer.weight)
        assert torch.equal(layer.weight_quantizer.decode(codes), layer.weight), name
        assert codes.min() >= 0 and codes.max() <= 15


@pytest.mark.parametrize(("method", "image"), ((ERQ, 8), (GPTAQ, 8)))
def test_the_image_is_in_full_precision_where_the_paper_has_it_so(method, image):
    for protocol, bits in (("unified", image), ("paper", 32)):
        net = method(images=8, init_images=4, protocol=protocol).quantize(job("vit"))
        assert {q.bits for _, q in sites(net) if q.role == "image"} == {bits}


def test_two_ranges_a_row_stand_on_the_card():
    rows = scheme_card(ERQ(images=8, init_images=4, dual=True).quantize(job("vit")))
    noted = {row["role"] for row in rows if row["note"] == "two scales a row"}
    assert noted == {"qkv", "fc1"}
    assert not any(row["note"] for row in scheme_card(ERQ(images=8, init_images=4).quantize(job("vit"))))


def test_layers_of_erq_do_not_see_each_other():
    """The weights of a layer are the same whatever is quantized elsewhere: inputs are those of full precision."""
    kept = []
    for rules in ({}, {"blocks.0.mlp.fc1": "32", "blocks.0.attn.*": "32"}):
        net = METHODS["erq"].quantize(job("vit", rules=rules))
        kept.append(dict(quant_layers(net))["patch_embed.proj"].weight)
    assert torch.equal(*kept)


def test_the_papers_protocol_of_gptaq_quantizes_each_token_anew_and_layers_of_blocks_alone():
    net = replace(METHODS["gptaq"], protocol="paper").quantize(job("vit"))
    cards = {(row["role"], row["kind"]): row for row in scheme_card(net)}
    dynamic = {role for (role, _), row in cards.items() if row["note"] == "ranges found at inference"}
    assert dynamic == {"post_layernorm", "proj_in", "post_gelu"}
    assert {cards[role, "activation"]["granularity"] for role in dynamic} == {"token"}
    assert {role for (role, _), row in cards.items() if row["bits"] == 32} == {
        "image", "patch_embed", "query", "key", "value", "post_softmax", "head"}


@pytest.mark.parametrize("method", (GPTAQ(images=1, init_images=1, damping=0.0),
                                    ERQ(images=1, init_images=1, coe=0.0, head_ridge=0.0)))
def test_fewer_tokens_than_columns_need_no_damping(method):
    work = job("vit")
    work.calibration = [images(1)]
    with torch.no_grad():
        assert method.quantize(work)(images()).isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_inputs_that_overflow_are_said(method):
    work = job("vit")
    with torch.no_grad():
        work.model.blocks[0].mlp.fc1.weight.mul_(1e25)
    with pytest.raises(Diverged, match="not finite"):
        METHODS[method].quantize(work)
