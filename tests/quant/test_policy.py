"""Bits by policy: every rule reaches exactly the sites that it names, and says so where it names none or one twice."""

import pytest
import torch

from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Bits, UserError
from aiqvit.quant.card import sites
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.surgery import quant_layers
from tests.models import images, tiny, uniform


def placed(rules: dict[str, str], bits: str = "4/4", family: str = "vit"):
    given = Bits.parse(bits)
    return quantize_model(tiny(family), uniform(given.weight, min(given.activation, 8)), BitPolicy(given, rules))


def bits_of(model) -> dict[str, int]:
    return {q.site.name: q.bits for _, q in sites(model)}


@pytest.mark.parametrize(("rules", "expected"), [
    ({"head": "8"}, {"head.input_quantizer": 8, "head.weight_quantizer": 8}),
    ({"first_last": "8"}, dict.fromkeys(("head.input_quantizer", "head.weight_quantizer",
                                         "patch_embed.proj.weight_quantizer"), 8)),
    ({"post_softmax": "6"}, {f"blocks.{i}.attn.av.left_quantizer": 6 for i in range(2)}),
    ({"qkv": "6/3"}, {f"blocks.{i}.attn.qkv.{end}": bits for i in range(2)
                      for end, bits in (("weight_quantizer", 6), ("input_quantizer", 3))}),
    ({"blocks.1.mlp.*": "2/5"}, {f"blocks.1.mlp.{layer}.{end}": bits for layer in ("fc1", "fc2")
                                 for end, bits in (("weight_quantizer", 2), ("input_quantizer", 5))}),
    ({"head": "32", "proj": "8"}, {"head.input_quantizer": 32, "head.weight_quantizer": 32,
                                   **{f"blocks.{i}.attn.proj.{end}_quantizer": 8 for i in range(2)
                                      for end in ("input", "weight")}}),
])
def test_a_rule_changes_the_sites_that_it_names_and_no_other(rules, expected):
    before, after = bits_of(placed({})), bits_of(placed(rules))
    assert {name: bits for name, bits in after.items() if bits != before[name]} == expected


def test_weight_only_leaves_every_activation_in_float_the_image_too():
    model = placed({}, "4/32")
    assert {q.kind for _, q in sites(model) if q.site.operand == "activation"} == {"float"}
    assert {q.bits for _, q in sites(model) if q.site.operand == "weight"} == {4}
    half = placed({}, "4/16")
    assert {q.kind for _, q in sites(half) if q.site.operand == "activation"} == {"float16"}
    for _, q in sites(half):
        q.mode = "on" if q.site.operand == "activation" else "off"
    with torch.no_grad():
        assert 0 < (half(images()) - tiny("vit")(images())).abs().max() < 0.05


@pytest.mark.parametrize("budget", (2.5, 3.5, 4.5, 8.0))
def test_a_budget_is_kept_and_spent(budget):
    layers = dict(quant_layers(placed({"budget": str(budget), "head": "8"})))
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    spent = sum(sizes[name] * layer.weight_quantizer.bits for name, layer in layers.items())
    assert layers["head"].weight_quantizer.bits == 8
    assert all(2 <= layer.weight_quantizer.bits <= 8 for layer in layers.values())
    assert budget * sum(sizes.values()) - max(sizes.values()) < spent <= budget * sum(sizes.values())


def test_a_layer_that_rounds_worse_gets_more_bits():
    model = tiny("vit")
    model.blocks[0].mlp.fc1.weight.data[:, 0] *= 60  # one column sets the range of all
    quantized = quantize_model(model, uniform(), BitPolicy(Bits(4, 4), {"budget": "4"}))
    bits = {name: layer.weight_quantizer.bits for name, layer in quant_layers(quantized)}
    assert bits["blocks.0.mlp.fc1"] != bits["blocks.1.mlp.fc1"]


@pytest.mark.parametrize(("rules", "message"), [
    ({"heads": "8"}, "bits:heads=8 names no site of this model: expected first_last, budget, a role .*head.*qkv"),
    ({"blocks.7.*": "8"}, "names no site of this model"),
    ({"head": "8", "first_last": "6"}, "bits:first_last and bits:head both name"),
    ({"blocks.0.*": "6", "qkv": "8"}, "both name blocks.0.attn.qkv"),
    ({"head": "9"}, "bits:head=9: expected a number from 2 to 8"),
    ({"head": "8/16/4"}, "expected a number"),
    ({"head": "16"}, "expected a number"),
    ({"budget": "9"}, "bits:budget=9: expected the average bits of a weight"),
    ({"budget": "nan"}, "expected the average"),
    ({"budget": "2", "blocks.*": "8"}, "takes more than that already"),
])
def test_a_policy_that_makes_no_sense_is_one_sentence(rules, message):
    with pytest.raises(UserError, match=message):
        placed(rules)


@pytest.mark.parametrize("text", ("4/16", "2/32", "8/8", "4/8"))
def test_bits_that_are_supported(text):
    assert str(Bits.parse(text)) == text


@pytest.mark.parametrize("text", ("4", "1/4", "9/4", "4/9", "32/4", "4/0", "4/-4", "a/b", "4/4/4", "4/24"))
def test_bits_that_are_not(text):
    with pytest.raises(UserError, match="expected weights/activations"):
        Bits.parse(text)
