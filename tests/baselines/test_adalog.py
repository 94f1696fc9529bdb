"""AdaLog: with and without retraining, every switch, the protocol of the paper, the code's loss."""

from functools import cache

import pytest
import torch
from aiqvit.baselines.adalog import AdaLog, summed

from aiqvit.interfaces import Bits, Job
from aiqvit.quant.card import scheme_card
from tests.models import FAMILIES, images, tiny, units

LONGER = {"steps": 20, "rounding_rate": 0.05, "scale_rate": 1e-2}


def run(family: str = "vit", **settings) -> tuple[torch.nn.Module, list[dict]]:
    job = Job(tiny(family), units(family), list(images(8).split(4)), Bits(3, 3))
    return AdaLog(**{**AdaLog.presets["smoke"], **settings}).quantize(job), job.log


@cache
def outputs(**settings) -> torch.Tensor:
    with torch.no_grad():
        return run(**{**LONGER, **settings})[0](images())


@pytest.mark.parametrize("settings", [
    {"retrain": False}, {"rounds": 0}, {"refinements": 0}, {"init_images": 8}, {"score_rows": 32}, {"score_images": 0},
    {"loss": "mse"}, {"loss": "token"}, {"head": False}, {"operands": "head"}, {"official_levels": True},
    {"protocol": "paper"}, {"level_rate": 0.3}])
def test_every_switch_changes_the_result(settings):
    changed = outputs(**settings)
    assert changed.isfinite().all() and not torch.equal(changed, outputs())


@pytest.mark.parametrize("family", FAMILIES)
def test_without_retraining_the_first_images_set_all_and_no_unit_has_a_loss(family):
    method = AdaLog(images=8, init_images=4, rounds=1, refinements=0, retrain=False)
    assert method.images == 4
    _, log = run(family, retrain=False)
    assert [entry["unit"] for entry in log] == list(units(family))
    assert all("loss_after" not in entry for entry in log)


def test_retraining_helps():
    _, log = run(steps=40, rounding_rate=0.1, batch=8)
    assert any(entry["kept"] and entry["loss_after"] < 0.9 * entry["loss_before"] for entry in log[1:3])


def test_the_papers_protocol_leaves_the_image_and_takes_heads_and_a_code_more():
    rows = {(row["role"], row["kind"]): row for row in scheme_card(run(protocol="paper")[0])}
    assert rows["image", "activation"]["bits"] == 32 and rows["head", "activation"]["bits"] == 3
    assert {rows[role, "activation"]["granularity"] for role in ("query", "key", "value")} == {"head"}
    for role in ("post_softmax", "post_gelu"):
        row = rows[role, "activation"]
        assert row["granularity"] == "tensor" and row["note"] == "9 codes (official_levels)"


def test_the_codes_loss_is_a_tenth_of_the_sum_over_tokens():
    output, target = torch.randn(2, 4, 7, 5, generator=torch.Generator().manual_seed(0))
    explicit = (output - target).square().sum(1).mean() / 10
    torch.testing.assert_close(summed(output, target).mean(), explicit)
