"""APQ-ViT: bottom elimination against sorting, the search against a loop over the block."""

import copy

import pytest
import torch
from aiqvit.baselines.apqvit import APQViT, eliminated, searched

from aiqvit.families.opening import quantize_model
from aiqvit.interfaces import Bits, Job
from aiqvit.quant.card import scheme_card
from aiqvit.recon.gradients import probe_loss, traces
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


def test_softmax_is_uniform_and_gelu_has_twin_codes():
    rows = {row["role"]: row for row in scheme_card(run()) if row["kind"] == "activation"}
    assert rows["post_softmax"]["quantizer"] == "uniform" and rows["query"]["quantizer"] == "uniform symmetric"
    assert rows["post_gelu"]["quantizer"] == "twin-gelu"


@pytest.mark.parametrize("settings", [{"rho": 0.99}, {"rounds": 2}, {"steps": 9}, {"protocol": "paper"}])
def test_every_switch_changes_the_result(settings):
    with torch.no_grad():
        assert not torch.equal(run(**{"steps": 30, **settings})(images()), run(steps=30)(images()))


def test_the_last_searched_range_is_the_best_of_its_grid_for_the_block():
    """The last site of a block is searched with all others as they end up: a plain loop must agree."""
    model, log = tiny("vit"), []
    raw = quantize_model(copy.deepcopy(model), APQViT().scheme(Job(model, (), [], Bits(4, 4)), ()))
    generator, seen = torch.Generator().manual_seed(0), {}
    gradient = traces(raw, "blocks.0", [raw.blocks[0]], [images(4)], lambda m, x: m(x),
                      lambda out: probe_loss(out, generator))[raw.blocks[0]].gradient
    raw.blocks[0].register_forward_hook(lambda m, args, out: seen.update(x=args[0], y=out))
    method = APQViT(**{**SMOKE, "score_images": 0, "steps": 12})
    model = method.quantize(Job(model, ("blocks.0",), [images(4)], Bits(4, 4), log=log))
    block, (quantizer, _) = model.blocks[0], list(searched(model.blocks[0]))[-1]
    assert quantizer is block.mlp.fc2.weight_quantizer
    chosen, scores, scales = quantizer.scale.item(), [], []
    with torch.no_grad():
        raw(images(4))
        for i in range(13):
            scales.append(block.mlp.fc2.weight.abs().max().item() * (0.01 + i * 1.19 / 12) / 7.5)
            quantizer.scale.data = torch.tensor([scales[-1]])
            parts = ((block(seen["x"]) - seen["y"]) * gradient).square().flatten(1).sort(1).values
            scores.append(parts[:, parts.shape[1] // 2:].sum().item())
    assert chosen == pytest.approx(scales[scores.index(min(scores))], rel=1e-4)
    assert log[0]["score"] == pytest.approx(min(scores), rel=1e-3)


def test_the_softmax_range_is_searched():
    model = run(steps=30)
    highs = [(block.attn.av.left_quantizer.scale * 15).item() for block in model.blocks]
    model.requires_grad_(False)
    maxima = []
    for block in model.blocks:
        block.attn.av.register_forward_pre_hook(lambda m, args: maxima.append(args[0].max().item()))
    with torch.no_grad():
        model(images(8)[:4])
    assert any(abs(high - most) > 0.02 * most for high, most in zip(highs, maxima, strict=True))


def test_zero_weights_and_constant_images_give_no_nan():
    model = tiny("vit")
    model.blocks[0].attn.qkv.weight.data.zero_()
    model.blocks[1].mlp.fc1.weight.data.zero_()
    job = Job(model, units("vit"), [torch.zeros(4, 3, 32, 32)], Bits(3, 3))
    with torch.no_grad():
        assert APQViT(**SMOKE).quantize(job)(images()).isfinite().all()
