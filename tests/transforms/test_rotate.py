"""Rewritten networks give what they gave before, whatever their family; others are refused."""

import pytest
import torch
from torch import nn

from aiqvit.families.opening import open_model
from aiqvit.interfaces import UserError
from aiqvit.transforms.hadamard import rotation
from aiqvit.transforms.rotate import RMSNorm, rotate, rotate_heads, stream_of
from tests.families.networks import NETWORKS

REFUSED = {  # why
    "vit_rms": "through a norm that is no LayerNorm with weight and bias", "vit_post_norm": "read it itself",
    "eva_post_norm": "read it itself", "vit_prr": "what reads the last norm is not known",
    "cait": "where it begins", "swin": "its width changes", "swinv2": "where it begins", "tv_swin": "its width changes"}
ALLOWED = [name for name in NETWORKS if not name.startswith(("swin", "tv_swin")) and name not in REFUSED]


def network(name):
    """One whose parameters are all random, in float64."""
    torch.manual_seed(0)
    model = NETWORKS[name]().eval().double().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * (0.5 if parameter.dim() < 2 else parameter.shape[-1] ** -0.5))
    return open_model(model)


@pytest.mark.parametrize("name", ALLOWED)
def test_a_network_gives_what_it_gave_before(name):
    model, images = network(name), torch.randn(3, 3, 32, 32, dtype=torch.float64)
    before, norms = model(images), stream_of(model).readers
    rotate(model, torch.Generator().manual_seed(1))
    assert (before[0] - before[1]).abs().max() > 1e-3  # it says something of its images
    assert torch.allclose(model(images), before, rtol=0, atol=1e-10 * before.abs().max().item())
    assert all(isinstance(model.get_submodule(norm), RMSNorm) for norm in norms) and len(norms) >= 3
    single = network(name).float()
    plain = single(images.float())
    rotate(single, torch.Generator().manual_seed(1))
    assert torch.allclose(single(images.float()), plain, rtol=0, atol=1e-4 * max(1, plain.abs().max().item()))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_rotated_is_refused_by_the_reason(name):
    model = network(name)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match=REFUSED[name]):
        rotate(model, torch.Generator())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("size", [1, 2, 12, 16, 24, 192, 384, 768, 1280, 1024, 56, 36])
def test_rotations_are_orthogonal_with_entries_of_one_size(size):
    turn = rotation(size, torch.Generator().manual_seed(0))
    assert torch.allclose(turn @ turn.T, torch.eye(size, dtype=torch.float64), atol=1e-12)
    if size not in (36, 56):  # no (q + 1) 2^k: any orthogonal matrix
        assert torch.allclose(turn.abs(), torch.full_like(turn, size**-0.5))
    other = rotation(size, torch.Generator().manual_seed(4))
    assert size < 3 or not torch.equal(turn, other)


def test_an_outlier_channel_is_spread_over_all():
    model = network("vit")
    values = []
    model.blocks[1].register_forward_hook(lambda _, __, output: values.append(output))
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    model.pos_embed[..., 5] += 100
    model(images)
    rotate(model, torch.Generator().manual_seed(1))
    model(images)
    share = [(v.abs().max() / v.square().mean().sqrt()).item() for v in values]
    assert share[0] > 4.5 and share[1] < 2


def test_the_norm_is_a_layer_norm_of_tokens_without_mean():
    x = torch.randn(4, 6, 12, dtype=torch.float64)
    x -= x.mean(-1, keepdim=True)
    norm = RMSNorm(12, 1e-6, x)
    assert torch.allclose(norm(x), nn.functional.layer_norm(x, (12,), eps=1e-6))



@pytest.mark.parametrize("name", NETWORKS)
def test_heads_are_rotated_where_nothing_stands_between(name):
    model, images = network(name), torch.randn(3, 3, 32, 32, dtype=torch.float64)
    before, weights = model(images), {n: p.clone() for n, p in model.named_parameters()}
    found = rotate_heads(model, torch.Generator().manual_seed(1))
    assert torch.allclose(model(images), before, rtol=0, atol=1e-10 * before.abs().max().item())
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, weights[n])]
    assert bool(found) == bool(moved)
    if name in ("vit", "deit", "clip", "beit", "swin", "swinv2", "tv_vit", "tv_swin", "tv_swinv2", "eva", "dinov3"):
        assert len(found) >= 2 and any("proj" in n for n in moved)
