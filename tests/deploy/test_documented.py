"""docs/files.md says what the code does: its fields are those of the header, its formulas those of the formats."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from aiqvit.deploy import file
from aiqvit.deploy.info import Info
from aiqvit.deploy.sites import Stored
from aiqvit.quant import quantizers

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "files.md").read_text()
F = np.float32
MINIMUM = F(0.16997124)


def focusing(q, t, o, b):
    s = (t["b2"] - t["b1"]) / F(2**b - 1)
    if o["decoding"] == "intzp":
        return (q - np.round(-t["b1"] / s)) * s
    return np.where((q == 0) & (o["decoding"] == "zero_low"), F(0), q * s + t["b1"])


def twin_softmax(q, t, o, b):
    h, high = F(2 ** (b - 1)), t["high"]
    m = h - 1
    if o["official_sum"]:
        return np.where(q < h, q * (high / m) + np.round(high * m) / m, (q - h) / m + high)
    return np.where(q < h, q * (high / m), np.maximum((q - h) / m, high))


def twin_gelu(q, t, o, b):
    h = F(2 ** (b - 1))
    return np.where(q < h, q * (t["high"] / (h - F(0.5))), (h - 1 - q) * (MINIMUM / h))


def focused(x, t, o, b):
    s = (t["b2"] - t["b1"]) / F(2**b - 1)
    if o["decoding"] == "intzp":
        return np.round(x * (1 / s)) + np.round(-t["b1"] / s)
    return np.round((x - t["b1"]) * (1 / s))


def twin_softmax_code(x, t, o, b):
    h, high = F(2 ** (b - 1)), t["high"]
    m = h - 1
    return np.where(x < high, np.clip(np.round(x * (m / high)), 0, m), np.clip(np.round(x * m), 0, m) + h)


def twin_gelu_code(x, t, o, b):
    h = F(2 ** (b - 1))
    k = np.clip(np.round(x * (h / MINIMUM)), -h, 0)
    return np.where(k < 0, h - 1 - k, np.clip(np.round(x * ((h - F(0.5)) / t["high"])), 0, h - 1))


def uniform(q, t, o, b):
    return (q - t["zero"]) * t["scale"]


def uniform_code(x, t, o, b):
    return np.round(x * (1 / t["scale"])) + t["zero"]


def log_code(n):
    def code(x, t, o, b):
        with np.errstate(divide="ignore"):
            return np.round(-n * np.log2(np.maximum(x * (1 / t["scale"]), 0)))
    return code


def sqrt2(q, t, o, b):
    return np.where(q >= 2**b - 1 + o["official_levels"], F(0), np.exp2(-q / 2) * t["scale"])


def adaptive(q, t, o, b):
    k, most = q * t["numerator"], 2 ** (b + 1) - 2
    y = np.round(np.exp2(-(k % 37) / 37) * most) / most * np.exp2(-np.floor(k / 37)) * t["scale"]
    return np.where(q >= 2**b - 1 + o["official_levels"], F(0), y) - F(o["shifted"] * 0.16997124)


def adaptive_code(x, t, o, b):
    v = np.clip((x + F(o["shifted"] * 0.16997124)) * (1 / t["scale"]), F(1e-15), F(1))
    return np.round(np.log2(v) * (-37 / t["numerator"]))


FORMULAS = {  # format -> value of a code, code of a value, as the page says; options
    "Uniform": (uniform, uniform_code, [{"symmetric": False}, {"symmetric": True}]),
    "Signed": (uniform, uniform_code, [{"unsigned": True}, {"unsigned": False}]),
    "Log2": (lambda q, t, o, b: np.exp2(-q) * t["scale"], log_code(1), [{}]),
    "LogSqrt2": (sqrt2, log_code(2), [{"official_levels": False}, {"official_levels": True}]),
    "DynamicFocusing": (focusing, focused, [{"decoding": d} for d in ("affine", "zero_low", "intzp")]),
    "ShiftUniformLog2": (lambda q, t, o, b: np.exp2(np.round(-(q * t["step"] + t["low"]))) - t["shift"],
                         lambda x, t, o, b: np.round((-np.log2(x + t["shift"]) - t["low"]) / t["step"]),
                         [{"official_levels": False}, {"official_levels": True}]),
    "AdaptiveLog": (adaptive, adaptive_code, [{"shifted": s, "official_levels": o} for s in (False, True)
                                              for o in (False, True)]),
    "TwinSoftmax": (twin_softmax, twin_softmax_code, [{"official_sum": False}, {"official_sum": True}]),
    "TwinGelu": (twin_gelu, twin_gelu_code, [{}]),
}


def table(heading: str) -> list[list[str]]:
    """Rows of the first table whose first cell is `heading`."""
    (rows,) = re.findall(rf"^\| {heading} \|.*\n\|---.*\n((?:\|.*\n)+)", PAGE, re.M)[:1]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


def documented(after: str) -> set[str]:
    """Names in the first column of the first table behind a text."""
    rows = re.findall(r"(?:^\|.*\n)+", PAGE[PAGE.index(after) :], re.M)[0].splitlines()[2:]
    return {re.findall(r"`(\w+)`", row)[0] for row in rows}


def test_fields_are_those_of_the_header():
    assert documented("## Header") == set(file.Header.__annotations__)
    assert documented("A quantizer is") == set(Stored.__annotations__)
    (told,) = re.findall(r"^`info` has (.*?)\.$", PAGE, re.M | re.S)
    assert set(re.findall(r"`(\w+)`", told)) == {field.name for field in fields(Info)}
    assert f"This page is the format, version {file.VERSION}," in PAGE


def test_formats_tensors_and_options_are_those_of_the_quantizers():
    rows = {name.strip("`"): (tensors, options) for name, tensors, options, _ in table("format")}
    assert rows.keys() == set(quantizers.__all__) - {"Quantizer"}
    assert rows.keys() - {"Float", "Half", "DualUniform", "DynamicUniform"} == FORMULAS.keys()
    for name, (tensors, options) in rows.items():
        quantizer = getattr(quantizers, name)() if name == "Half" else getattr(quantizers, name)(4)
        own = {key for key, _ in (*quantizer.named_parameters(), *quantizer.named_buffers())}
        assert own == set(filter(None, tensors.split(", "))), name
        assert set(quantizer.options()) == set(filter(None, options.split(", "))), name


@pytest.mark.parametrize("bits", (2, 3, 4, 8))
@pytest.mark.parametrize(("name", "options"), [(name, o) for name, (_, _, all_) in FORMULAS.items() for o in all_])
def test_formulas_are_those_of_the_formats(name, options, bits):
    value, code, _ = FORMULAS[name]
    quantizer = getattr(quantizers, name)(bits, **options)
    x = torch.randn(4000, generator=torch.Generator().manual_seed(bits))
    x = x if name in ("Uniform", "Signed") else torch.nn.functional.gelu(x) if name == "TwinGelu" else x.softmax(0) * 99
    quantizer.calibrate(x)
    tensors = {key: t.detach().numpy() for key, t in (*quantizer.named_parameters(), *quantizer.named_buffers())}
    codes = torch.arange(quantizer.levels)
    expected = quantizer.decode(codes.int())
    assert np.allclose(value(codes.numpy().astype(F), tensors, options, bits), expected, rtol=1e-6, atol=1e-9)
    found = np.clip(code(x.numpy(), tensors, options, bits), 0, quantizer.levels - 1)
    assert (found != quantizer.encode(x).numpy()).mean() < 1e-3  # logarithms of numpy and torch round apart at ties


def test_the_formula_of_two_ranges_a_row_is_that_of_the_format():
    quantizer, weight = quantizers.DualUniform(4), torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    quantizer.calibrate(weight)
    first, second = (((codes := quantizer.encode(weight)) - zero) * scale for scale, zero in (
        (quantizer.scale, quantizer.zero), (quantizer.second_scale, quantizer.second_zero)))
    assert 0 < quantizer.second.sum() < 12 and codes.max() < 16
    torch.testing.assert_close(quantizer.decode(codes), torch.where(quantizer.second, second, first))
