"""Every registered method on a network that is on a GPU, without a GPU: all that is computed stays on one device."""

from __future__ import annotations

import copy
from itertools import islice

import pytest
import torch
from aiqvit.tasks.imagenet import ImageNet
from aiqvit.tasks.models.point_transformer import PointTransformer
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from aiqvit.evaluation import Teacher, outcomes
from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Bits, Job, Labelled
from aiqvit.quant.quantizers import adaptive_log, base
from aiqvit.recon import mlp, progressive, rewriting
from aiqvit.registry import METHODS
from tests.fake_cuda import fake_cuda

METHOD_NAMES = [name for name in METHODS.names() if name != "fp32" and not METHODS.get(name).only_in_grids]
MODELS = {  # network, a sample's shape, the unit that is reconstructed
    "vit": (lambda: VisionTransformer(img_size=16, patch_size=8, embed_dim=12, depth=1, num_heads=3, num_classes=5),
            (3, 16, 16), "blocks.0"),
    "swin": (lambda: SwinTransformer(img_size=16, patch_size=4, window_size=2, embed_dim=8, depths=(2,), num_heads=(2,),
                                     num_classes=5), (3, 16, 16), "layers.0.blocks.1"),
    "points": (lambda: PointTransformer(6, 5, (8, 16), 4, hidden=(12, 10)), (16, 6), "blocks.1"),
}


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch):
    """Few candidates of each search are enough; a fake device belongs to one thread."""
    whole = base.best_range
    monkeypatch.setattr(base, "best_range", lambda x, found, *rest: whole(x, islice(found, 2), *rest))
    monkeypatch.setattr(progressive, "scores", lambda first, second, score: score(first[0], second[0]).expand_as(first))
    monkeypatch.setattr(adaptive_log, "NUMERATORS", range(10, 138, 4))
    monkeypatch.setattr(mlp, "_side_by_side", lambda work, items, device: [work(*item) for item in items])


@pytest.mark.parametrize(("method", "model"), [*((name, "vit") for name in METHOD_NAMES),
                                               *((name, kind) for kind in ("swin", "points") for name in ("qdrop",))])
def test_quantization_and_evaluation_stay_on_the_device_of_the_model(method, model):
    make, shape, unit = MODELS[model]
    (choice,) = choose_methods(method)
    with fake_cuda():
        with torch.device("cuda"):
            net, samples = make().eval().requires_grad_(False), torch.empty(4, *shape)
        net = rewriting.quantized(choice.build("smoke"), Job(net, [unit], [samples], Bits(4, 4)))
        assert net(samples).device.type == "cuda"
        batch = Labelled(list("abcd"), torch.empty(4, *shape), torch.zeros(4, dtype=torch.long))
        said = outcomes(ImageNet.__new__(ImageNet), net, [batch], "cuda", Teacher(copy.deepcopy(net)))
        assert said.samples == tuple("abcd") and said.arrays["kl"].shape == (4,)
        assert all(t.device.type == "cuda" for t in net.state_dict().values() if isinstance(t, torch.Tensor))
