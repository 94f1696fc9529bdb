"""Two models side by side."""

import copy
import math

import pytest
import timm
import torch
from torch import nn

import aiqvit
from aiqvit.interfaces import UserError

X = torch.randn(4, 3, 160, 160, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=10).eval()


def test_a_model_equals_itself(model):
    found = aiqvit.compare(model, copy.deepcopy(model), X)
    assert found.mean == found.largest == 0 and found.agreement == 100 and found.snr == math.inf
    assert set(found.sites.values()) == {math.inf} and "blocks.0.attn.qkv" in found.sites
    assert "inf dB" in str(found) and found.samples == 4


def test_noise_is_where_it_was_put_and_as_large_as_it_is(model):
    other = copy.deepcopy(model)
    layer = other.blocks[3].mlp.fc1
    layer.weight.data *= 1.01  # 1 % of a layer's output but its bias: 40 dB below
    layer.bias.data *= 1.01
    found = aiqvit.compare(model, other, [X[:2], X[2:]])
    noisy = {name for name, value in found.sites.items() if value < math.inf}
    assert found.sites["blocks.3.mlp.fc1"] == pytest.approx(40, abs=0.01)
    assert "blocks.2.mlp.fc2" not in noisy and "blocks.3.attn.qkv" not in noisy and "blocks.4.attn.qkv" in noisy
    outputs = model(X), other(X)
    assert found.largest == pytest.approx((outputs[0] - outputs[1]).abs().max().item(), rel=1e-5)
    assert found.mean == pytest.approx((outputs[0] - outputs[1]).abs().mean().item(), rel=1e-5)


def test_more_bits_have_less_noise_at_every_site(model):
    few, many = (aiqvit.quantize(model, X, "minmax", bits, progress=False) for bits in ("4/4", "8/8"))
    first, second = (aiqvit.compare(model, q, X) for q in (few, many))
    assert all(second.sites[name] > value for name, value in first.sites.items()) and second.snr > first.snr + 10
    both = aiqvit.compare(few, many, X)
    assert "blocks.0.attn.qk" in both.sites  # products are compared where both have them as modules


def test_models_of_other_outputs_or_inputs_are_refused(model):
    with pytest.raises(UserError, match=r"shapes \(4, 10\) and \(4, 7\)"):
        aiqvit.compare(model, timm.create_model("test_vit", num_classes=7), X)
    with pytest.raises(UserError, match="does not take a batch"):
        aiqvit.compare(model, nn.Sequential(nn.Linear(3, 3)), X)
    with pytest.raises(UserError, match="no samples"):
        aiqvit.compare(model, model, X[:0])


def test_the_models_are_left_as_they_were(model):
    other = copy.deepcopy(model).train()
    other.blocks[0].eval()
    aiqvit.compare(model, other, X)
    assert not model.training and other.training and other.blocks[1].training and not other.blocks[0].training
    assert not any(module._forward_hooks for module in other.modules())


def test_batches_of_different_sizes():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x):
            return self.layer(x)  # (B, N, 4)

    model = Wide()
    found = aiqvit.compare(model, model, [torch.randn(2, 5, 3), torch.randn(1, 7, 3)])
    assert (found.samples, found.largest, found.snr) == (3, 0, math.inf)
