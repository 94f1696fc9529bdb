"""Switches of every method: what is rewritten before a method gets the model."""

import copy

import pytest
import torch
from torch import nn

from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Bits, Job, Trained, UserError
from aiqvit.quant.card import sites
from aiqvit.recon.rewriting import quantized, rotate_all
from aiqvit.registry import METHODS
from aiqvit.settings import values
from aiqvit.transforms.rotate import RMSNorm
from tests.families import networks
from tests.models import clouds, images, tiny, tiny_points

METHOD_NAMES = [name for name in METHODS.names() if name != "fp32"]
TRAINED = [name for name in METHOD_NAMES if issubclass(METHODS.get(name), Trained)]


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_method_quantizes_a_rotated_model(method):
    (choice,) = choose_methods(f"{method}[rotate=on,bits:head=8]")
    torch.manual_seed(0)
    model = tiny("vit")
    with torch.no_grad():
        expected = model(images())
        job = Job(copy.deepcopy(model), None, [images()], Bits(8, 8), bit_rules=choice.bit_rules)
        net = quantized(choice.build("smoke"), job)
        assert sum(isinstance(module, RMSNorm) for module in net.modules()) == 5
        assert all(quantizer.mode == "on" for _, quantizer in sites(net))
        assert (net(images()) - expected).norm() < (0.3 if method == "isvit" else 0.2) * expected.norm()
    assert job.rewritten[:2] == ["residual stream rotated, its LayerNorms replaced by RMSNorms",
                                 "queries, keys and values of each head rotated in 2 attentions"]


@pytest.mark.parametrize("method", TRAINED)
def test_every_method_that_trains_does_so_in_bfloat16_to_nearly_the_same_end(method):
    nets, logs = [], []
    for bf16 in ("off", "on"):
        (choice,) = choose_methods(f"{method}[bf16={bf16},bits:head=8]")
        torch.manual_seed(0)
        job = Job(tiny("vit"), None, [images()], Bits(8, 8), bit_rules=choice.bit_rules)
        nets.append(quantized(choice.build("smoke"), job))
        logs.append(job.log)
    with torch.no_grad():
        exact, half = (net(images()) for net in nets)
    assert half.dtype == torch.float32 and (half - exact).norm() < 0.15 * exact.norm()
    assert [entry["unit"] for entry in logs[0]] == [entry["unit"] for entry in logs[1]]
    assert [e.get("loss_after") for e in logs[0]] != [e.get("loss_after") for e in logs[1]]
    assert not any(getattr(module, "half", None) is True for net in nets for module in net.modules())


def test_methods_without_training_have_no_bfloat16():
    with pytest.raises(UserError, match="bf16"):
        choose_methods("repqvit[bf16=on]")
    specs = choose_methods("repqvit,qdrop", ["bf16=on"])
    assert [spec.changed for spec in specs] == [{}, {"bf16": True}]


def test_the_same_seed_rotates_alike_and_another_does_not():
    def weight(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        job = Job(tiny("vit"), None, [images()], Bits(8, 8), seed)
        return quantized(choose_methods("minmax[rotate=on]")[0].build("smoke"), job).blocks[0].attn.qkv.weight

    assert torch.equal(weight(1), weight(1)) and not torch.equal(weight(1), weight(2))


def test_what_cannot_be_rotated_is_left_and_said():
    swin = Job(networks.build("swin_padded"), None, [networks.images(2)], Bits(8, 8))
    quantized(choose_methods("minmax[rotate=on]")[0].build("smoke"), swin)
    assert swin.rewritten[0].endswith("its width changes from stage to stage") and "rotated in" in swin.rewritten[1]
    points = Job(tiny_points("classifier"), None, [clouds()], Bits(8, 8))
    quantized(choose_methods("minmax[rotate=on]")[0].build("smoke"), points)
    assert points.rewritten == ["the residual stream of PointTransformer cannot be rotated: it has no LayerNorms in "
                                "front of layers", "no heads rotated: attention has none"]


def test_a_switch_that_is_off_stands_in_no_settings():
    off, on = (choose_methods(f"minmax[rotate={value}]")[0].build("quick") for value in ("off", "on"))
    assert "rotate" not in values(off) and values(on) == {**values(off), "rotate": True}


class Reader(nn.Module):
    """A ViT in a network that reads its residual stream as it is."""

    def __init__(self, norm):
        super().__init__()
        self.inside, self.norm, self.out = tiny("vit"), norm, nn.Linear(24, 5)

    def forward(self, x):
        stream = self.inside.forward_intermediates(x, indices=[1], norm=self.norm, output_fmt="NLC",
                                                   intermediates_only=True)[-1]
        return self.out(stream.mean(1))


@pytest.mark.parametrize("norm", (False, True))
def test_a_stream_that_something_else_reads_is_left_as_it_was_and_that_is_said(norm):
    torch.manual_seed(0)
    model = Reader(norm).eval()
    with torch.no_grad():
        expected = model(images())
        job = Job(model, None, [images()], Bits(8, 8))
        rotate_all(job)
        torch.testing.assert_close(job.model(images()), expected, rtol=1e-4, atol=1e-5)  # heads are rotated
    assert job.rewritten == ["the residual stream of Reader cannot be rotated: something besides its blocks reads it, "
                             "since outputs change", "queries, keys and values of each head rotated in 2 attentions"]


def test_a_model_is_rotated_once():
    job = Job(tiny("vit"), None, [images()], Bits(8, 8))
    with torch.no_grad():
        expected = job.model(images())
        rotate_all(job)
        rotate_all(job)
        torch.testing.assert_close(job.model(images()), expected, rtol=1e-4, atol=1e-5)
    assert job.rewritten[2] == "the residual stream of VisionTransformer cannot be rotated: it is rotated already"
