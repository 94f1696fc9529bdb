"""Every form of activation codes in onnxruntime, element by element against the torch quantizer, for all bits."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

from aiqvit.deploy.onnx.export import export_fp32
from aiqvit.deploy.onnx.forms import FORMS, form_of
from aiqvit.interfaces import UserError
from aiqvit.quant import quantizers as q
from aiqvit.quant.observers import MinMax
from aiqvit.quant.site import Site
from tests.deploy.onnx.runtime import run, same

BITS = (2, 3, 4, 6, 8)
FAR = {"observer": MinMax(), "include_zero": False}  # a zero point outside of a byte


def softmax(x: Tensor) -> Tensor:
    return (4 * x).softmax(-1)


def symmetric(x: Tensor) -> Tensor:
    return x


CASES = {
    "uniform": (q.Uniform, symmetric),
    "uniform, zero point below a byte": (partial(q.Uniform, **FAR), lambda x: x.sigmoid() + 3),
    "uniform, zero point above a byte": (partial(q.Uniform, **FAR), lambda x: -x.sigmoid() - 3),
    "signed": (q.Signed, symmetric),
    "signed, no negative values": (q.Signed, torch.relu),
    "log-sqrt2": (q.LogSqrt2, softmax),
    "log2": (q.Log2, softmax),
    "log2 of negative values": (q.Log2, symmetric),
    "focusing": (q.DynamicFocusing, softmax),
    "focusing, intzp": (partial(q.DynamicFocusing, decoding="intzp"), softmax),
    "focusing, zero_low": (partial(q.DynamicFocusing, decoding="zero_low"), softmax),
    "shift-log": (q.ShiftUniformLog2, softmax),
    "adaptive log": (q.AdaptiveLog, softmax),
    "adaptive log of GELU": (partial(q.AdaptiveLog, shifted=True), nn.functional.gelu),
    "twin softmax": (q.TwinSoftmax, softmax),
    "twin GELU": (q.TwinGelu, nn.functional.gelu),
    "float32": (q.Float, symmetric),
    "float16": (lambda bits: q.Half(), lambda x: x * 40_000),
}


class Forms(nn.Module):
    """All cases of one tensor, as the export has them or as torch has them."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.places = nn.ModuleList()
        for make, data in CASES.values():
            for bits in BITS:
                place = make(bits)
                place.calibrate(data(x))
                if isinstance(place, q.DynamicFocusing):
                    place.b1.data.fill_(0.011)
                self.places.append(place)
        self.forms = [form_of(place) for place in self.places]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(form.decoded(y) for form, y in zip(self.forms, self.data(x), strict=True))

    def data(self, x: Tensor) -> list[Tensor]:
        """What each quantizer stands for."""
        return [y for _, data in CASES.values() for y in [data(x)] * len(BITS)]


@cache
def tensor() -> Tensor:
    return torch.randn(4, 3, 17, 33, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
    """Case and bits -> what onnxruntime gives and what torch gives."""
    model, path = Forms(tensor()).requires_grad_(False), tmp_path_factory.mktemp("forms") / "forms.onnx"
    given = run(export_fp32(model, path, tensor()), tensor())
    keys = [(case, bits) for case in CASES for bits in BITS]
    expected = [place.fake(y) for place, y in zip(model.places, model.data(tensor()), strict=True)]
    return {key: pair for key, *pair in zip(keys, given, expected, strict=True)}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("case", CASES)
def test_the_form_equals_the_quantizer(results, case, bits):
    given, expected = results[case, bits]
    assert same(given, expected, flips=1e-3, tolerance=1e-5)
    assert expected.unique().numel() > 1


def test_every_format_has_a_case_or_is_refused():
    without = {q.Quantizer, q.DualUniform, q.DynamicUniform}  # of weights only; below
    assert FORMS.keys() == {getattr(q, name) for name in q.__all__} - without
    assert {type(place) for place in Forms(tensor()).places} == FORMS.keys()


@pytest.mark.parametrize(("quantizer", "why"), [
    (q.Uniform(8, 1), "one range a head"),
    (q.Uniform(8, -1), "one range a channel"),
    (q.DynamicUniform(8), "ranges found at inference have no form in ONNX"),
    (q.TwinSoftmax(8, official_sum=True), "official_sum"),
    (q.LogSqrt2(8, official_levels=True), "257 codes"),
    (q.ShiftUniformLog2(8, official_levels=True), "257 codes"),
    (q.AdaptiveLog(8, official_levels=True), "257 codes"),
])
def test_what_has_no_form_is_refused_by_its_site(quantizer, why):
    quantizer.site = Site("blocks.3.attn.av.left_quantizer")
    with pytest.raises(UserError, match=f"^blocks.3.attn.av.left_quantizer: .*{why}"):
        form_of(quantizer)


@pytest.mark.parametrize("make", [q.LogSqrt2, q.ShiftUniformLog2, q.AdaptiveLog])
def test_one_code_more_is_fine_where_it_fits_into_a_byte(make):
    quantizer = make(7, official_levels=True)
    x = softmax(tensor())
    quantizer.calibrate(x)
    assert same(form_of(quantizer).decoded(x), quantizer.fake(x), flips=0)
