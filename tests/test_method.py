"""AIQViT end to end: its parts can be switched, its log says what happened, reconstruct_model lowers the error."""

import pytest
import torch

from aiqvit.harness.launch.options import choose_methods, grid_methods
from aiqvit.interfaces import Bits, Diverged, Job, UserError
from aiqvit.method import AIQViT
from aiqvit.quant.card import scheme_card, sites
from aiqvit.quant.quantizers import DynamicFocusing
from tests.models import FAMILIES, images, tiny, units

SMOKE = AIQViT.presets["smoke"]


def run(family: str = "vit", bits: str = "3/3", **settings) -> tuple[torch.nn.Module, list[dict]]:
    torch.manual_seed(0)
    job = Job(tiny(family), units(family), list(images(8).split(4)), Bits.parse(bits))
    return AIQViT(**{**SMOKE, **settings}).quantize(job), job.log


@pytest.mark.parametrize("family", FAMILIES)
def test_log_has_losses_ranks_and_bounds_of_every_unit(family):
    model, log = run(family)
    assert [entry["unit"] for entry in log] == [unit for unit in units(family) if not unit.startswith("head")]
    for entry in log:
        assert entry["loss_before"] > 0 and entry["loss_after"] > 0
        if "block" in entry["unit"]:
            assert set(entry["ranks"]) == {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}
            assert 0 <= entry["b1"][0] < entry["b2"][0] <= 1
    for _, quantizer in sites(model):
        if quantizer.site.operand == "activation":
            assert quantizer.granularity == "tensor"


def test_longer_training_lowers_every_loss():
    _, log = run(steps=60, search_steps=10, ranks=(4, 8), weight_rate=0.1)
    for entry in log[1:3]:
        assert entry["loss_after"] < 0.96 * entry["loss_before"], entry["unit"]


@pytest.mark.parametrize("settings", [
    {"lowrank": False}, {"curriculum": False}, {"rank": 3}, {"form": "qllm"}, {"form": "outside"}, {"inherit": True},
    {"second_order": 1e-3}, {"decoding": "intzp"}, {"decoding": "zero_low"},
    {"loss": "token", "ranges": "token"}, {"loss": "mse"}, {"loss": "relative", "ranges": "own"},
    {"target": "fp_of_q"}, {"order": "recon_then_reparam"}, {"weight_scale_rate": 0.0},
])
def test_every_switch_runs_and_changes_the_result(settings):
    with torch.no_grad():
        changed, base = run(**settings)[0](images()), run()[0](images())
    assert changed.isfinite().all() and not torch.equal(changed, base)


def test_switches_do_what_they_say():
    uniform, _ = run(dfq=False)
    rows = {(row["role"], row["kind"]): row["quantizer"] for row in scheme_card(uniform)}
    assert rows["post_softmax", "activation"] == "uniform"
    logarithmic, _ = run(dfq=False, softmax="log_sqrt2")
    assert {q.kind for _, q in sites(logarithmic) if q.role == "post_softmax"} == {"log-sqrt2"}
    with pytest.raises(UserError, match="softmax=log_sqrt2 takes the place of DFQ: set dfq=off too"):
        AIQViT(softmax="log_sqrt2")
    focused = [q for _, q in sites(run(decoding="zero_low")[0]) if isinstance(q, DynamicFocusing)]
    assert [q.decoding for q in focused] == ["zero_low"] * 2
    assert [e["ranks"]["attn.qkv"] for e in run(rank=3)[1] if e["unit"] == "blocks.0"] == [[3]]
    assert all(e["ranks"] == {} for e in run(lowrank=False)[1])
    assert [e["unit"] for e in run(head=True)[1]] == ["patch_embed", "blocks.0", "blocks.1", "head"]


def test_a_small_memory_bound_changes_nothing():
    with torch.no_grad():
        assert torch.equal(run(memory_gb=0.0)[0](images()), run()[0](images()))


def test_weights_that_are_not_finite_are_reported_with_their_block():
    model = tiny("vit")
    model.blocks[1].attn.proj.bias.data[0] = float("nan")
    job = Job(model, units("vit"), list(images(8).split(4)), Bits(4, 4))
    with pytest.raises(Diverged, match="blocks.1"):
        AIQViT(**SMOKE).quantize(job)


def test_every_variant_of_every_grid_is_a_method():
    for name in AIQViT.grids:
        for choice in choose_methods(grid_methods(name)):
            assert isinstance(choice.build("quick"), AIQViT)
    methods = [choice.build("quick") for choice in choose_methods(grid_methods("table5"))]
    parts = [(m.lowrank, m.dfq, m.curriculum) for m in methods]
    assert len(set(parts)) == 8 and parts[0] == (False, False, False) and parts[-1] == (True, True, True)
