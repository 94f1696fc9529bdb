"""APQ-ViT: bottom elimination against sorting, the search against a loop over the block."""

import copy

import pytest
import torch

from aiqvit.interfaces import Bits, Job
from aiqvit.quant.card import scheme_card
from baselines.apqvit import APQViT, eliminated
from tests.models import images, tiny, units

SMOKE = APQViT.presets["smoke"]


def run(**settings) -> torch.nn.Module:
    torch.manual_seed(0)
    return APQViT(**{**SMOKE, **settings}).quantize(Job(tiny("vit"), units("vit"), [images(8)], Bits(4, 4)))


@pytest.mark.parametrize("rho", (0.0, 0.5, 0.9))
def test_the_smallest_share_of_every_sample_is_left_out(rho):
    torch.manual_seed(0)
    x = torch.rand(3, 4, 5)
    explicit = sum(sum(sorted(sample.flatten().tolist())[int(rho * 20):]) for sample in x)
    assert eliminated(x, rho).item() == pytest.approx(explicit, rel=1e-5)


def test_softmax_has_all_codes_over_its_whole_range():
    rows = {row["role"]: row for row in scheme_card(run()) if row["kind"] == "activation"}
    assert rows["post_softmax"]["quantizer"] == "uniform" and rows["query"]["quantizer"] == "uniform symmetric"


@pytest.mark.parametrize("settings", [{"rho": 0.99}, {"rounds": 2}, {"steps": 9}, {"protocol": "paper"}])
def test_every_switch_changes_the_result(settings):
    with torch.no_grad():
        assert not torch.equal(run(**{"steps": 30, **settings})(images()), run(steps=30)(images()))


def test_the_last_searched_range_is_near_the_best_for_the_block():
    """The last site of a block is searched with all others as they end up: far ranges must be worse."""
    torch.manual_seed(0)
    model, log, seen = tiny("vit"), [], {}
    raw = copy.deepcopy(model)
    method = APQViT(**{**SMOKE, "rho": 0.0, "score_images": 0, "steps": 12})
    model = method.quantize(Job(model, ("blocks.0",), [images(4)], Bits(4, 4), log=log))
    block = model.blocks[0]
    quantizer = block.mlp.fc2.weight_quantizer
    raw.blocks[0].register_forward_hook(lambda m, args, out: seen.update(x=args[0], y=out))
    chosen, errors = quantizer.scale.clone(), []
    with torch.no_grad():
        raw(images(4))
        for factor in (0.25, 1.0, 4.0):
            quantizer.scale.data = chosen * factor
            errors.append((block(seen["x"]) - seen["y"]).square().sum().item())
    assert errors[1] < errors[0] and errors[1] < errors[2]
    assert log[0]["score"] > 0
