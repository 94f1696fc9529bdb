"""Symmetric codes where values have both signs, unsigned ones where they have not."""

import pytest
import torch
from aiqvit.baselines.apqvit import APQViT
from aiqvit.baselines.ptq4vit import PTQ4ViT
from torch import nn

from aiqvit.interfaces import Bits, Job
from aiqvit.quant.observers import MinMax
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.quantizers.signed import Signed

X = torch.linspace(-2, 3, 501)


def observed(x: torch.Tensor, **settings) -> Signed:
    quantizer = Signed(4, None, MinMax(), **settings)
    quantizer.calibrate(x)
    return quantizer


def test_both_signs_give_the_symmetric_quantizer():
    plain = Uniform(4, observer=MinMax(), symmetric=True)
    plain.calibrate(X)
    assert torch.equal(observed(X).fake(X), plain.fake(X))


def test_one_sign_gives_all_codes_to_it():
    x = X.clamp(min=0)
    quantizer = observed(x)
    codes = quantizer.encode(x)
    assert codes.min() == 0 and codes.max() == 15 and len(codes.unique()) == 16
    assert torch.equal(quantizer.decode(codes), quantizer.fake(x))
    assert (quantizer.fake(x) - x).abs().max() <= 3 / 15 / 2 + 1e-6
    assert len(observed(x, unsigned=False).encode(x).unique()) == 8


def test_the_choice_is_made_anew():
    quantizer = observed(X.clamp(min=0))
    quantizer.calibrate(X)
    assert quantizer.symmetric and (quantizer.fake(X) < 0).any()


@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize("method", [PTQ4ViT, APQViT])
def test_methods_choose_by_what_a_layer_sees(method, unsigned):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    job = Job(model, ("0", "2"), [torch.randn(32, 8)], Bits(4, 4))
    quantized = method(**{**method.presets["smoke"], "unsigned": unsigned}).quantize(job)
    found = [quantized[i].input_quantizer for i in (0, 2)]
    assert [q.symmetric for q in found] == [True, not unsigned]
    assert found[1].encode(torch.linspace(0, 10, 2000)).unique().numel() == (16 if unsigned else 8)
