"""Coverage against numbers counted by hand, and what it finds that surgery has missed."""

import pytest
import torch
from torch import nn

from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Bits, UserError
from aiqvit.quant.coverage import coverage, require
from aiqvit.quant.policy import BitPolicy
from aiqvit.quant.surgery import calibrate, set_mode
from tests.models import FAMILIES, images, tiny, uniform

FOUR = Bits(4, 4)


def quantized(model, bits=FOUR, x=None):
    model = quantize_model(model, uniform(), BitPolicy(bits))
    calibrate(model, lambda m: m(images() if x is None else x))
    return model


def test_a_vit_is_counted_as_by_hand():
    model, x = quantized(tiny("vit")), images(1)
    tokens, width, hidden, depth = 17, 24, 96, 2
    block = tokens * width * (3 * width + width + 2 * hidden) + 2 * tokens * tokens * width
    by_hand = 16 * 3 * 64 * width + depth * block + width * 7
    found = coverage(model, lambda m: m(x))
    assert (found.macs, found.quantized, found.missed, found.first) == (by_hand, 1.0, 0.0, "")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_off_or_has_one_operand_is_told_apart(family):
    model, x = quantized(tiny(family)), images(1)
    set_mode(model, "off", activations=False)
    off = coverage(model, lambda m: m(x))
    assert off.quantized < 1 and off.missed > 0.85 and "patch_embed" in off.first
    placed = coverage(model, lambda m: m(x), placed=True)
    assert placed.quantized == 1.0
    weight_only = coverage(quantized(tiny(family), Bits(4, 32)), lambda m: m(x))
    assert weight_only.quantized == 0 and weight_only.missed == 0
    assert weight_only.one_operand + weight_only.declared == pytest.approx(1)
    assert 0 < weight_only.declared < 0.3  # the two products of attention


class Hidden(nn.Module):
    """Multiplies where no layer is."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.weight = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 8))

    def forward(self, x):
        return self.inner(x) @ self.weight


def test_products_outside_of_layers_are_missed_by_name():
    model, x = quantized(nn.Sequential(Hidden(), nn.Linear(8, 2)), x=torch.randn(4, 8)), torch.randn(1, 8)
    found = coverage(model, lambda m: m(x))
    assert found.missed == pytest.approx(64 / 144) and found.first == "0 (tests.quant.test_coverage.Hidden)"
    outside = coverage(model, lambda m: m(x @ x.T * x))
    assert outside.missed > found.missed
    with pytest.raises(UserError, match="the model: 44.4% of its .* the first in 0 .*Hidden.*--partial"):
        require(found)
    require(found, partial=True)


def test_the_first_line_of_a_card():
    text = str(coverage(quantized(tiny("vit")), lambda m: m(images(1))))
    assert text == "coverage 100.00% of 0.3 M multiply-accumulates on quantized operands"
