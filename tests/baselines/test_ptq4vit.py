"""PTQ4ViT: its layer search is the explicit one, its switches work, all-zero weights do no harm."""

import pytest
import torch
from aiqvit.baselines.ptq4vit import PTQ4ViT

from aiqvit.interfaces import Bits, Job
from aiqvit.quant.card import scheme_card, sites
from aiqvit.quant.quantizers import Float
from tests.models import FAMILIES, images, tiny, units

SMOKE = PTQ4ViT.presets["smoke"]


def run(family: str = "vit", bits: str = "4/4", model: torch.nn.Module | None = None, **settings) -> torch.nn.Module:
    torch.manual_seed(0)
    job = Job(model or tiny(family), units(family), list(images(8).split(4)), Bits.parse(bits))
    return PTQ4ViT(**{**SMOKE, **settings}).quantize(job)


@pytest.mark.parametrize("family", FAMILIES)
def test_twin_quantizers_and_row_groups_are_where_they_belong(family):
    model = run(family)
    rows = {(row["role"], row["kind"]): row for row in scheme_card(model)}
    assert rows["post_softmax", "activation"]["quantizer"] == "twin-softmax"
    assert rows["post_gelu", "activation"]["quantizer"] == "twin-gelu"
    assert rows["qkv", "weight"]["note"] == "3 groups of rows"
    for _, q in sites(model):
        if q.role == "qkv" and q.site.operand == "weight":
            assert q.scale.flatten().unique().numel() <= 3
        assert q.mode == "on"


@pytest.mark.parametrize("settings", [
    {"metric": "cosine"}, {"metric": "mse"}, {"probe": "pseudo_label"}, {"twin": False}, {"official_sum": True},
    {"rounds": 2}, {"steps": 9}, {"start": 0.5}, {"score_rows": 4}, {"protocol": "paper"},
])
def test_every_switch_changes_the_result(settings):
    with torch.no_grad():
        assert not torch.equal(run(**settings)(images()), run()(images()))


def test_an_input_scale_is_the_best_of_its_grid_given_the_weights():
    """One layer alone: after one round the input's range minimises the weighted error, found by a plain loop."""
    method = PTQ4ViT(**{**SMOKE, "score_rows": 0, "steps": 20, "metric": "mse"})
    torch.manual_seed(0)
    model = tiny("vit")
    fp = model.blocks[0].attn.proj.weight.clone()
    job = Job(model, ("blocks.0",), [images(4)], Bits(3, 3))
    seen = {}
    hook = model.blocks[0].attn.proj.register_forward_hook(lambda m, args, out: seen.update(x=args[0].detach()))
    with torch.no_grad():
        model(images(4))
    hook.remove()
    layer = method.quantize(job).blocks[0].attn.proj
    x, weight = seen["x"].flatten(0, 1), layer.weight_quantizer.fake(layer.weight)
    raw, base, errors = x @ fp.T, x.abs().max(), []
    for i in range(21):
        scale = base * (0.01 + i * 1.19 / 20) / 3.5
        errors.append((((x / scale).round().clamp(-4, 3) * scale) @ weight.T - raw).square().sum().item())
    best = base * (0.01 + errors.index(min(errors)) * 1.19 / 20) / 3.5
    assert layer.input_quantizer.scale.item() == pytest.approx(best.item(), rel=1e-4)


def test_all_zero_weights_and_the_papers_ends():
    model = tiny("vit")
    model.blocks[0].mlp.fc1.weight.data.zero_()
    with torch.no_grad():
        assert run(model=model)(images()).isfinite().all()
    assert isinstance(run(protocol="paper").patch_embed.proj.input_quantizer, Float)


def test_weights_are_the_best_of_their_grid_by_the_explicit_hessian_score():
    """Gradients by hand, all candidates in a plain loop; inputs are at their whole range in the first round."""
    torch.manual_seed(0)
    model, seen = tiny("vit"), {}
    settings = {"score_rows": 0, "steps": 20, "probe": "pseudo_label"}
    layer, x = model.blocks[1].mlp.fc1, images(4)

    def keep(_, args, output):
        seen.update(x=args[0].detach().flatten(0, 1), y=output.requires_grad_())

    model.requires_grad_(False)
    hook = layer.register_forward_hook(keep)
    logits = model(x)
    torch.nn.functional.cross_entropy(logits, logits.argmax(1), reduction="sum").backward(inputs=[seen["y"]])
    hook.remove()
    weight, raw, gradient = layer.weight.clone(), seen["x"] @ layer.weight.T, seen["y"].grad.flatten(0, 1)
    step, losses = seen["x"].abs().max() / 3.5, []
    x_hat = (seen["x"] / step).round().clamp(-4, 3) * step
    scales = [weight.abs().max() * (0.01 + i * 1.19 / 20) / 3.5 for i in range(21)]
    for scale in scales:
        w_hat = (weight / scale).round().clamp(-4, 3) * scale
        losses.append(((x_hat @ w_hat.T - raw) * gradient).square().sum().item())
    job = Job(model, ("blocks.1",), [x], Bits(3, 3))
    chosen = PTQ4ViT(**{**SMOKE, **settings}).quantize(job).blocks[1].mlp.fc1.weight_quantizer.scale
    assert chosen.item() == pytest.approx(scales[losses.index(min(losses))].item(), rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"groups": 2}, {"padding": "same"}])
def test_any_convolution_and_batches_that_are_no_tensors(settings):
    class Neck(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.conv = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 6, 3, **settings)

        def forward(self, batch: dict) -> list[torch.Tensor]:
            return [self.conv(self.trunk(batch["image"]).relu_())]

    torch.manual_seed(0)
    model, batch = Neck(), {"image": images(4)}
    raw = model(batch)[0].detach()
    model = PTQ4ViT(**{**SMOKE, "steps": 30}).quantize(Job(model, (), [batch], Bits(8, 8)))
    with torch.no_grad():
        assert (model(batch)[0] - raw).norm() < 0.05 * raw.norm()
    assert model.conv.weight_quantizer.scale.numel() == 1


def test_windows_are_scored_by_their_share_of_the_images():
    method = PTQ4ViT(images=32, score_images=8)
    assert method.share(32) == 8 and method.share(32 * 64) == 8 * 64
    assert PTQ4ViT(images=32).share(32) == 32 and method.share(1) == 1


def test_without_gradient_no_range_collapses():
    model = tiny("vit")
    model.head.weight.data.zero_()
    bases = {}
    hook = model.blocks[0].attn.proj.register_forward_hook(lambda m, args, out: bases.update(x=args[0].abs().max()))
    with torch.no_grad():
        model(images(8)[:4])
    hook.remove()
    quantizer = run(model=model).blocks[0].attn.proj.input_quantizer
    assert quantizer.scale.item() == pytest.approx(1.2 * bases["x"].item() / 7.5, rel=1e-3)
