"""Whole models of every method in onnxruntime, layer by layer and at several batch sizes from one file."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from aiqvit.deploy.onnx.export import Exported, export_onnx
from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Bits, Job
from aiqvit.recon import rewriting
from aiqvit.registry import METHODS
from tests.deploy.onnx.runtime import INTEGER, differing, kernels, run
from tests.families import networks
from tests.models import FAMILIES, images, tiny

NAMES = [name for name in METHODS.names() if name != "fp32"]
CASES = [*((name, "vit", "4/6") for name in NAMES), ("minmax", "deit", "8/8"), ("minmax", "swin", "8/8"),
         ("aiqvit", "swin", "3/3"), ("minmax", "vit", "4/32"),
         *(("minmax[rotate=on]", family, "8/8") for family in ("vit", "deit", "swin", "tv_vit", "clip"))]
FLOAT = {  # products whose codes are no multiples of a step
    **dict.fromkeys(("repqvit", "erq", "gptaq"), {"av": "float: log-sqrt2 codes"}),
    "isvit": {"av": "float: shift-uniform-log2 codes"},
    "adalog": dict.fromkeys(("av", "fc2"), "float: adaptive-log codes")}
TWO_RANGES = {"ptq4vit": ("av", "fc2"), "apqvit": ("fc2",)}


@cache
def quantized(method: str, family: str, bits: str) -> torch.nn.Module:
    """A tiny model after the method at preset smoke."""
    (choice,) = choose_methods(method)
    model = tiny(family) if family in FAMILIES else networks.build(family)
    job = Job(model, None, list(images().split(4)), Bits.parse(bits), bit_rules=choice.bit_rules)
    return rewriting.quantized(choice.build("smoke"), job)


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def case(request, tmp_path_factory) -> tuple[tuple[str, str, str], torch.nn.Module, Exported]:
    """Method, family and bits; the quantized model; its file."""
    net = quantized(*request.param)
    return request.param, net, export_onnx(net, tmp_path_factory.mktemp("export") / "net.onnx", images())


def test_each_layer_and_product_gives_what_it_gives_in_torch(case):
    _, net, exported = case
    assert differing(net, exported, images()) == []


def test_one_file_takes_batches_of_any_size(case):
    _, _, exported = case
    (whole,) = run(exported.path, images())
    for size in (1, 3):
        (part,) = run(exported.path, images()[:size])
        torch.testing.assert_close(part, whole[:size], rtol=1e-4, atol=1e-4)


def test_products_are_integer_as_the_scheme_promises(case):
    (method, _, bits), net, exported = case
    if bits == "4/32":
        assert set(exported.products.values()) == {"float: float32 activations"} and exported.matmuls == 0
        return
    promised = {name: FLOAT.get(method, {}).get(name.rpartition(".")[2], "integer") for name in exported.products}
    assert exported.products == promised
    twice = sum(name.endswith(TWO_RANGES.get(method, ())) for name in promised)
    found = kernels(exported.path)
    assert sum(found[kind] for kind in INTEGER) == exported.matmuls == list(promised.values()).count("integer") + twice
    assert found["MatMul"] + found["FusedMatMul"] + found["MatMulNBits"] + found["Gemm"] + found["Conv"] == sum(
        how != "integer" for how in promised.values())


def test_the_model_stays_as_it_is(case):
    _, net, exported = case
    assert {name for name, _ in net.named_modules()} >= set(exported.products)
    assert not any(module.__module__.startswith("aiqvit.deploy") for module in net.modules())
