"""Every registered method on a mini model of each task and kind: whole runs, so a new method is tested for free.

Point Transformers are named by their tasks; a part of their units is enough, the others get their ranges only.
"""

from __future__ import annotations

import copy
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from aiqvit.tasks.mini import imagenet as mini
from aiqvit.tasks.mini import solids
from aiqvit.tasks.models.point_weights import build
from aiqvit.tasks.point_files import unit_sphere
from aiqvit.tasks.weights import load_state, read_state

from aiqvit.deploy.structure import replace, replaced
from aiqvit.families.opening import open_model, quantize_model
from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Bits, Job
from aiqvit.quant import state as states
from aiqvit.quant.card import scheme_card, sites
from aiqvit.quant.coverage import coverage
from aiqvit.quant.quantizers import Float
from aiqvit.recon import rewriting
from aiqvit.registry import METHODS

METHOD_NAMES = [name for name in METHODS.names() if name != "fp32" and not METHODS.get(name).only_in_grids]
AS_PORTED = [f"{name}[operands=head,weights=output]" for name in ("brecq", "qdrop")]
POINT_TASKS = ("modelnet40", "shapenetpart")
MODELS = ("mini_vit", "mini_swin", "shapenetpart")  # a segmenter has all that a classifier of points has
UNITS = ("patch_embed", "blocks.0", "layers.0.blocks.1"), ("embed", "downs.1", "blocks.2", "bottom")


@cache
def data(name: str) -> torch.Tensor:
    """Eight samples: procedural images in the value range of the mini models, (8, 3, 64, 64), or mini solids."""
    if name not in POINT_TASKS:
        return torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rng, kinds = np.random.default_rng(0), list(solids.PARTS)
    shapes = [unit_sphere(solids.draw(kinds[i % len(kinds)].lower(), rng)[:32, :6]) for i in range(8)]
    points = torch.from_numpy(np.stack(shapes)).float()  # (8, 32, 6)
    if name == "modelnet40":
        return points
    category = torch.eye(len(kinds))[torch.arange(8) % len(kinds)]
    return torch.cat([points, category[:, None].expand(-1, points.shape[1], -1)], dim=-1)


@cache
def trained(name: str) -> torch.nn.Module:
    """The mini model with its trained weights."""
    path = str(solids.weights(name) if name in POINT_TASKS else mini.weights(name))
    state = read_state(path)
    model = build(state, path) if name in POINT_TASKS else mini.build(name)
    load_state(model, state, path)
    return model.eval().requires_grad_(False)


def fresh(method: str, model: str, bits: str) -> torch.nn.Module:
    """The mini model after the method at preset smoke."""
    (choice,) = choose_methods(method)
    modules = dict(trained(model).named_modules())
    units = [name for name in UNITS[model in POINT_TASKS] if name in modules]
    job = Job(copy.deepcopy(trained(model)), units, list(data(model).split(4)), Bits.parse(bits),
              bit_rules=choice.bit_rules)
    return rewriting.quantized(choice.build("smoke"), job)


def has_relu(method: str) -> bool:
    """Whether the method makes another function of the model before it quantizes it."""
    return getattr(METHODS.get(method)(), "relu", False)


@cache
def quantized(method: str, model: str, bits: str) -> torch.nn.Module:
    """The same, run once for all tests, which leave it as it is."""
    return fresh(method, model, bits)


@pytest.mark.parametrize(("method", "model", "bits"), [
    *product(METHOD_NAMES + AS_PORTED, ("mini_vit",), ("3/3",)), *product(METHOD_NAMES, MODELS, ("4/6",))])
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

    assert all(quantizer.mode == "on" for _, quantizer in sites(net))
    coded = {name: q for name, q in sites(net) if not (isinstance(q, Float) and q.role == "coordinates")}
    hooks = [quantizer.register_forward_hook(check(name)) for name, quantizer in coded.items()]
    with torch.no_grad():
        logits = net(data(model))
    for hook in hooks:
        hook.remove()
    assert torch.isfinite(logits).all()
    assert wrong == [] and seen == coded.keys()


@pytest.mark.parametrize("model", ("mini_vit", "shapenetpart"))
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_bits_are_those_asked_for(method, model):
    for row in scheme_card(quantized(method, model, "4/6")):
        other = {"image": 8, "coordinates": 32}.get(row["role"], 6)
        assert row["bits"] == (4 if row["kind"] == "weight" else other) or not row["sites"], row


@pytest.mark.parametrize(("method", "model"), [
    *product(METHOD_NAMES, ("mini_vit",)), *product(("qdrop", "isvit", "glfq", "aiqvit"), ("shapenetpart",))])
def test_same_seed_same_numbers_bit_for_bit(method, model):
    first = quantized(method, model, "4/6")
    torch.rand(7)  # torch's own generator stands elsewhere: nothing is drawn from it
    second = fresh(method, model, "4/6")
    with torch.no_grad():
        assert torch.equal(first(data(model)), second(data(model)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_the_state_loads_bit_for_bit_into_a_skeleton_and_all_is_covered(method, model):
    net = quantized(method, model, "4/6")
    state = states.saved_state(net)
    rewritten = open_model(copy.deepcopy(trained(model)))
    replace(rewritten, replaced(net))
    skeleton = quantize_model(rewritten, states.scheme_of(state))
    states.load_state(skeleton, state)
    with torch.no_grad():
        assert torch.equal(skeleton(data(model)), net(data(model)))
    found = coverage(skeleton, lambda m: m(data(model)[:1]))
    assert found.missed == 0 and found.quantized > 0.95
    assert found.declared == 0 and (found.one_operand == 0 or model in POINT_TASKS)  # whose coordinates stay float


@pytest.mark.parametrize(("method", "model", "bits"), [
    *product(METHOD_NAMES, ("mini_vit", "modelnet40"), ("4/32",)),
    *product(("minmax", "erq", "qdrop", "aiqvit"), ("mini_vit",), ("4/16",))])
def test_weight_only(method, model, bits):
    net = quantized(method, model, bits)
    assert {q.bits for _, q in sites(net) if q.site.operand == "weight"} == {4}
    assert {q.bits for _, q in sites(net) if q.site.operand == "activation"} == {int(bits[2:])}
    with torch.no_grad():
        given, expected = net(data(model)), trained(model)(data(model))
    assert given.isfinite().all() and (given - expected).norm() < 0.6 * expected.norm()


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_bits_by_policy(method):
    net = quantized(f"{method}[bits:head=32,bits:blocks.0.*=3/5,bits:patch_embed=7]", "mini_vit", "4/6")
    for _, q in sites(net):
        layer, weight = q.site.layer, q.site.operand == "weight"
        if layer.startswith("blocks.0."):
            assert q.bits == (3 if weight else 5)
        else:
            assert q.bits == {"head": 32, "patch_embed.proj": 7}.get(layer, 4 if weight else 6), q.site
    with torch.no_grad():
        assert net(data("mini_vit")).isfinite().all()


@pytest.mark.parametrize("model", ("mini_vit", "modelnet40"))
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_eight_bits_stay_close_to_full_precision(method, model):
    method += "[relu=off]" * has_relu(method)  # smoke leaves the ReLU networks next to untrained
    with torch.no_grad():
        expected, given = trained(model)(data(model)), quantized(method, model, "8/8")(data(model))
    most = 0.12 if method == "isvit" else 0.1  # it reads softmax values back as powers of two, whatever the bits
    assert (given - expected).norm() < most * expected.norm()


def test_full_precision_is_the_model_itself():
    job = Job(trained("mini_vit"), (), [data("mini_vit")], Bits(32, 32))
    assert METHODS.get("fp32")().quantize(job) is trained("mini_vit")
