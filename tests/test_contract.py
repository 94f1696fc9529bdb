"""Every registered method on every mini model: whole runs, so that a new method is tested for free."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch

from aiqvit.interfaces import Bits, Job
from aiqvit.quant.card import scheme_card, sites
from aiqvit.registry import METHODS
from tasks.mini import imagenet as mini

BITS = ("3/3", "4/6")
METHOD_NAMES = [name for name in METHODS.names() if name != "fp32"]


@cache
def data() -> torch.Tensor:
    """Eight procedural images in the value range of the mini models, (8, 3, 64, 64)."""
    return torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@cache
def trained(name: str) -> torch.nn.Module:
    """The mini model with its trained weights."""
    from tasks.weights import load_state, read_state

    model, path = mini.build(name), str(mini.weights(name))
    load_state(model, read_state(path), path)
    return model.eval().requires_grad_(False)


def quantized(method: str, model: str, bits: str) -> torch.nn.Module:
    """The mini model after the method at preset smoke."""
    torch.manual_seed(0)
    cls = METHODS.get(method)
    modules = dict(trained(model).named_modules())
    units = [name for name in ("patch_embed", "blocks.0", "layers.0.blocks.1") if name in modules]
    job = Job(copy.deepcopy(trained(model)), units, list(data().split(4)), Bits.parse(bits))
    return cls(**cls.presets.get("smoke", {})).quantize(job)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("model", mini.MODELS)
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_site_has_at_most_2b_codes_that_decode_to_what_the_model_uses(method, model, bits):
    net = quantized(method, model, bits)
    wrong, seen = [], set()

    def check(name):
        def hook(quantizer, args, output):
            codes = quantizer.encode(args[0])
            seen.add(name)
            fine = codes.min() >= 0 and codes.max() < 2**quantizer.bits and codes.unique().numel() <= 2**quantizer.bits
            if not (fine and torch.equal(quantizer.decode(codes), output)):
                wrong.append(name)
        return hook

    for name, quantizer in sites(net):
        assert quantizer.mode == "on"
        quantizer.register_forward_hook(check(name))
    with torch.no_grad():
        logits = net(data())
    assert torch.isfinite(logits).all()
    assert wrong == [] and seen == {name for name, _ in sites(net)}


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_bits_are_those_asked_for(method):
    card = scheme_card(quantized(method, "mini_vit", "4/6"))
    for row in card:
        expected = {4} if row["kind"] == "weight" else {8} if row["role"] == "image" else {6}
        assert row["bits"] in expected, row


@pytest.mark.parametrize("model", mini.MODELS)
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_same_seed_same_numbers_bit_for_bit(method, model):
    with torch.no_grad():
        first, second = (quantized(method, model, "3/3")(data()) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_eight_bits_stay_close_to_full_precision(method):
    with torch.no_grad():
        expected, given = trained("mini_vit")(data()), quantized(method, "mini_vit", "8/8")(data())
    assert (given - expected).norm() < 0.3 * expected.norm()


def test_full_precision_is_the_model_itself():
    job = Job(trained("mini_vit"), (), [data()], Bits(32, 32))
    assert METHODS.get("fp32")().quantize(job) is trained("mini_vit")
