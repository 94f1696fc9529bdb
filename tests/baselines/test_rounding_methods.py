"""BRECQ and QDrop: every switch runs, the ends follow the protocol, Fisher weights are the gradients."""

import copy

import pytest
import torch
from aiqvit.baselines.brecq import BRECQ
from aiqvit.baselines.isvit import ISViT
from aiqvit.baselines.qdrop import QDrop
from torch import nn

from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Bits, Job
from aiqvit.quant.card import scheme_card, sites
from aiqvit.quant.surgery import calibrate, set_mode
from aiqvit.recon.activations import Activations, ActivationStore
from aiqvit.recon.gradients import distance, output_importance
from aiqvit.recon.walk import UnitData, calibrate_ranges
from tests.models import FAMILIES, images, tiny, uniform, units

LONGER = {"steps": 30, "rounding_rate": 0.05, "scale_rate": 1e-3}


def run(cls: type, family: str = "vit", bits: str = "3/3", **settings) -> tuple[torch.nn.Module, list[dict]]:
    torch.manual_seed(0)
    job = Job(tiny(family), units(family), list(images(8).split(4)), Bits.parse(bits))
    return cls(**{**cls.presets["smoke"], **settings}).quantize(job), job.log


@pytest.mark.parametrize("cls", (BRECQ, QDrop, ISViT))
@pytest.mark.parametrize("family", FAMILIES)
def test_every_unit_is_logged_and_activations_are_per_tensor(cls, family):
    model, log = run(cls, family)
    assert [entry["unit"] for entry in log] == list(units(family))
    for _, quantizer in sites(model):
        assert quantizer.drop == 0 and quantizer.mode == "on"
        assert quantizer.granularity == ("channel" if quantizer.site.operand == "weight" else "tensor")


@pytest.mark.parametrize("cls, settings", [
    (BRECQ, {"joint": False}), (BRECQ, {"loss": "fisher"}), (BRECQ, {"loss": "relative"}), (BRECQ, {"head": False}),
    (BRECQ, {"loss": "fisher", "damping": 0.0}), (BRECQ, {"protocol": "paper"}), (BRECQ, {"inputs": "fp"}),
    (BRECQ, {"softmax": "own"}), (QDrop, {"softmax": "own"}),
    (QDrop, {"drop": 0.1}), (QDrop, {"loss": "relative"}), (QDrop, {"head": False}), (QDrop, {"protocol": "paper"}),
    (QDrop, {"loss": "tokenwise"}), (BRECQ, {"loss": "tokenwise"}), (QDrop, {"operands": "head"}),
    (BRECQ, {"operands": "head"}), (QDrop, {"weights": "output"}), (BRECQ, {"weights": "output"}),
    (QDrop, {"reparam": False}), (BRECQ, {"reparam": False}),
])
def test_every_switch_changes_the_result(cls, settings):
    with torch.no_grad():
        changed, base = run(cls, **{**LONGER, **settings})[0](images()), run(cls, **LONGER)[0](images())
    assert changed.isfinite().all() and not torch.equal(changed, base)


def test_scales_alone_are_a_second_phase_of_brecq_that_joint_training_does_not_have():
    logs = [run(BRECQ, **LONGER, joint=joint, scale_steps=steps)[1] for joint in (False, True) for steps in (2, 20)]
    two, joint = ([[e["loss_after"], e.get("scales", {}).get("loss_after")] for log in pair for e in log]
                  for pair in (logs[:2], logs[2:]))
    half = len(two) // 2
    assert two[:half] != two[half:] and joint[:half] == joint[half:]
    assert all(scales is not None for _, scales in two) and all(scales is None for _, scales in joint)


@pytest.mark.parametrize("settings", [{"official_levels": True}, {"loss": "relative"}, {"loss": "tokenwise"},
                                      {"head": False}, {"protocol": "paper"}, {"rate": 1e-3}])
def test_every_switch_of_isvit_changes_the_result(settings):
    with torch.no_grad():
        changed, base = run(ISViT, steps=20, **settings)[0](images()), run(ISViT, steps=20)[0](images())
    assert changed.isfinite().all() and not torch.equal(changed, base)


@pytest.mark.parametrize("cls", (BRECQ, QDrop))
def test_ends_under_the_papers_protocol_have_8_bits(cls):
    rows = {(row["role"], row["kind"]): row["bits"] for row in scheme_card(run(cls, protocol="paper")[0])}
    assert rows["patch_embed", "weight"] == rows["head", "weight"] == rows["head", "activation"] == 8
    assert rows["image", "activation"] == 32 and rows["qkv", "weight"] == 3


@pytest.mark.parametrize("cls", (BRECQ, QDrop))
@pytest.mark.parametrize("family", FAMILIES)
def test_operands_by_head_have_a_range_a_head_and_nothing_else_has(cls, family):
    model, _ = run(cls, family, operands="head")
    heads = {name: module.num_heads for name, module in model.named_modules() if hasattr(module, "num_heads")}
    seen = 0
    for name, quantizer in sites(model):
        if quantizer.site.operand == "activation":
            by_head = quantizer.role in ("query", "key", "value", "post_softmax")
            assert quantizer.granularity == ("head" if by_head else "tensor")
            seen += by_head and quantizer.scale.shape == (1, heads[name.rsplit(".", 2)[0]], 1, 1)
    assert seen == 4 * sum(hasattr(m, "num_heads") for m in model.modules()) > 0


@pytest.mark.parametrize("cls", (BRECQ, QDrop))
def test_vector_attention_has_no_heads(cls):
    job = Job(nn.Linear(4, 4), (), [], Bits(3, 3))
    assert cls(operands="head").scheme(job) == cls().scheme(job)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("output", (False, True))
def test_reparameterized_ranges_are_one_a_tensor_and_leave_the_full_precision_unit_alone(family, output):
    model, job = tiny(family), Job(tiny(family), units(family), [images(4)], Bits(3, 3))
    student = quantize_model(job.model, BRECQ(weights="output" if output else "own").scheme(job))
    assert "channel" in {q.granularity for _, q in sites(student) if q.role == "post_layernorm"}
    inputs = Activations(ActivationStore(2**30))
    inputs.append((images(4),))
    calibrate_ranges(UnitData("all", student, inputs, inputs, inputs), 4, reparam=True)
    assert {q.granularity for _, q in sites(student) if q.role == "post_layernorm"} == {"tensor"}
    set_mode(student, "off")
    with torch.no_grad():
        torch.testing.assert_close(student(images()), model(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("drop", (0.0, 0.3, 1.0))
def test_as_much_of_the_input_as_of_all_else_is_in_full_precision(monkeypatch, drop):
    seen = []

    def keep(data, schedule, rates, share, *rest) -> dict:
        seen.append((schedule.mix, share))
        return {}

    monkeypatch.setattr("aiqvit.baselines.qdrop.train_dropping", keep)
    run(QDrop, drop=drop)
    assert set(seen) == {(drop, drop)}


@pytest.mark.parametrize("cls", (BRECQ, QDrop))
def test_training_helps(cls):
    _, log = run(cls, steps=150, rounding_rate=0.03, batch=8)
    assert any(entry["kept"] and entry["loss_after"] < 0.9 * entry["loss_before"] for entry in log[1:3])


def test_fewer_steps_at_high_bits_for_isvit():
    low, high = (run(ISViT, bits=bits, steps=2, high_bit_steps=25, rate=1e-2)[1] for bits in ("3/6", "6/3"))
    assert low[1]["loss_after"] != high[1]["loss_after"]


def test_importance_is_the_gradient_of_the_distance_to_full_precision():
    teacher = tiny("vit")
    model = quantize_model(copy.deepcopy(teacher), uniform(3, 3))
    calibrate(model.blocks[0], lambda m: m(torch.randn(4, 17, 24)))
    batches = list(images(8).split(4))
    with torch.no_grad():
        references = [teacher(batch) for batch in batches]
    found = output_importance(model, "blocks.0", batches, lambda m, x: m(x), references, 0.5)
    (gradient,), _ = found.gather([5])
    values = []
    for sign in (1, -1):
        def nudge(_, __, output, sign=sign):
            output = output.clone()
            output[1, 2, 3] += sign * 1e-2
            return output
        hook = model.blocks[0].register_forward_hook(nudge)
        with torch.no_grad():
            values.append(distance(model(batches[1]), references[1]).item())
        hook.remove()
    assert gradient[0, 2, 3].item() - 0.5 == pytest.approx(abs(values[0] - values[1]) / 2e-2, rel=0.05, abs=1e-4)
