"""The engine of block reconstruction: every objective on every base, the methods on it, the papers' protocol."""

import copy
from itertools import product
from typing import get_args

import pytest
import torch
from aiqvit.baselines.blockwise import Base, Loss
from torch import nn

from aiqvit.harness.launch.options import choose_methods, grid_methods
from aiqvit.interfaces import Bits, Job
from aiqvit.quant.card import scheme_card, sites
from aiqvit.recon.rewriting import quantized
from aiqvit.registry import METHODS
from tests.models import images, tiny, units

OF = {"glfq": ("glf", "ste", True, True), "lsvit": ("ls", "adaround_qdrop", False, False),
      "fimaq": ("fima", "adaround_qdrop", False, False), "aphqvit": ("aph", "adaround_qdrop", False, True)}


def run(expression: str, bits: str = "3/3", preset: str = "smoke"):
    torch.manual_seed(0)
    (choice,) = choose_methods(expression)
    job = Job(tiny("vit"), units("vit"), list(images(8).split(4)), Bits.parse(bits))
    return quantized(choice.build(preset), job), job


@pytest.mark.parametrize(("loss", "base"), list(product(get_args(Loss), get_args(Base))))
def test_every_objective_stands_on_every_base(loss, base):
    net, job = run(f"blockwise[objective={loss},base={base}]")
    assert [entry["unit"] for entry in job.log] == list(units("vit"))
    assert all(entry["loss_before"] > 0 for entry in job.log)
    with torch.no_grad():
        assert net(images()).isfinite().all()
    assert all(q.drop == 0 and not q.scale.requires_grad for _, q in sites(net))


@pytest.mark.parametrize("name", OF)
def test_the_methods_are_settings_of_the_engine(name):
    for preset in ("paper", "quick", "smoke"):
        method = choose_methods(name)[0].build(preset)
        assert (method.objective, method.base, method.rotate, method.relu) == OF[name]
    net, job = run(name)
    assert any(isinstance(module, nn.ReLU) for module in net.modules()) == OF[name][3]
    assert any("rotated" in line for line in job.rewritten) == OF[name][2]
    assert (job.teacher is not None) == OF[name][3]


@pytest.mark.parametrize(("name", "bits", "granularity"), [
    ("fimaq", "3/3", {"query": "token", "value": "token", "post_layernorm": "token", "head": "tensor"}),
    ("lsvit", "3/3", {"query": "head", "value": "head", "post_layernorm": "tensor"}),
    ("aphqvit", "3/3", {"query": "head", "post_softmax": "head", "post_layernorm": "tensor"}),
    ("aphqvit", "3/2", {"query": "token", "post_layernorm": "token"}),
    ("glfq", "3/3", {"query": "tensor", "post_softmax": "tensor", "post_layernorm": "tensor"})])
def test_the_papers_protocol_is_that_of_each_code(name, bits, granularity):
    own = {row["role"]: row for row in scheme_card(run(f"{name}[protocol=paper]", bits)[0])
           if row["kind"] == "activation"}
    assert own["image"]["quantizer"] == "float"
    assert {role: own[role]["granularity"] for role in granularity} == granularity
    fair = {row["role"]: row for row in scheme_card(run(name, bits)[0]) if row["kind"] == "activation"}
    assert fair["image"]["bits"] == 8 and {row["granularity"] for row in fair.values()} == {"tensor"}


def test_a_block_is_compared_with_the_network_before_its_gelus_were_replaced():
    net, job = run("aphqvit")
    assert any(isinstance(module, nn.GELU) for module in job.teacher.modules())
    assert not any(isinstance(module, nn.GELU) for module in net.modules())
    with torch.no_grad():
        torch.testing.assert_close(job.teacher(images()), tiny("vit")(images()))


def test_the_grid_of_losses_has_every_objective_on_both_bases():
    chosen = choose_methods(grid_methods("losses"))
    built = [choice.build("quick") for choice in chosen]
    plain = {(m.objective, m.base) for m in built if not (m.rotate or m.relu) and m.base == "adaround_qdrop"}
    rewritten = {(m.objective, m.base) for m in built if m.rotate and m.relu and m.base == "ste"}
    assert plain == set(product(get_args(Loss), ["adaround_qdrop"]))
    assert rewritten == set(product(get_args(Loss), ["ste"]))
    assert "blockwise" in METHODS.names() and "blockwise" not in [c.name for c in choose_methods("all")]


def test_same_seed_same_numbers_and_a_killed_run_goes_on():
    first, second = (run("glfq")[0] for _ in range(2))
    with torch.no_grad():
        assert torch.equal(first(images()), second(images()))
        assert not torch.equal(first(images()), copy.deepcopy(run("glfq[steps=9]")[0])(images()))


@pytest.mark.parametrize("loss", get_args(Loss))
def test_a_network_of_one_logit_has_something_to_minimize(loss):
    torch.manual_seed(0)
    model = tiny("vit")
    model.head = nn.Linear(24, 1)
    (choice,) = choose_methods(f"blockwise[objective={loss}]")
    job = Job(model, units("vit"), list(images(8).split(4)), Bits(3, 3))
    with torch.no_grad():
        assert quantized(choice.build("smoke"), job)(images()).isfinite().all()
    assert all(entry["loss_before"] > 0 for entry in job.log)


@pytest.mark.parametrize("method", ("fimaq", "lsvit", "aphqvit", "glfq", "blockwise[objective=logits]"))
@pytest.mark.parametrize("size", (0.0, 1e-12))
def test_pictures_of_nothing_are_no_error(method, size):
    torch.manual_seed(0)
    job = Job(tiny("vit"), units("vit"), [size * batch for batch in images(8).split(4)], Bits(3, 3))
    with torch.no_grad():
        assert quantized(choose_methods(method)[0].build("smoke"), job)(images()).isfinite().all()
