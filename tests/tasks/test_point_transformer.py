"""Point Transformer: shapes, order of points, gradients, sizes from weights, a real checkpoint."""

import pytest
import torch
from aiqvit.tasks.models.point_transformer import PointSegmenter, PointTransformer, pyramid
from aiqvit.tasks.models.point_weights import build, own_keys
from aiqvit.tasks.weights import load_state, read_state

from aiqvit.interfaces import UserError

SMALL = {"widths": (8, 16, 24), "dim": 12}


def model(kind: type = PointTransformer, **options) -> torch.nn.Module:
    """A small network with batch statistics that are not the initial ones."""
    torch.manual_seed(0)
    net = kind(**{"channels": 6, "classes": 5, **SMALL, **options})
    with torch.no_grad():
        net.train()(points(8, seed=9))
    return net.eval()


def points(count: int = 2, size: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, 6, generator=torch.Generator().manual_seed(seed))


def test_the_published_sizes_are_the_default():
    net = PointTransformer()
    assert [block.expand.in_features for block in net.blocks] == [32, 64, 128, 256, 512]
    assert all(block.query.weight.shape == (512, 512) and block.query.bias is None for block in net.blocks)
    assert [layer.out_features for layer in net.classifier[::2]] == [256, 64, 40]
    levels = pyramid(points(1, 1024)[..., :3], 5)
    assert [level.xyz.shape[1] for level in levels] == [1024, 256, 64, 16, 4]
    assert [level.neighbours.shape[2] for level in levels] == [16, 16, 16, 16, 4]


@pytest.mark.parametrize("grouped", (True, False))
@pytest.mark.parametrize("kind", (PointTransformer, PointSegmenter))
def test_outputs_and_finite_gradients(kind, grouped):
    net = model(kind, grouped=grouped).train()
    batch = points()
    batch[:, 1:20] = batch[:, :1]  # equal points: distances of 0
    logits = net(batch)
    assert logits.shape == ((2, 5) if kind is PointTransformer else (2, 64, 5))
    logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or name.endswith("bias"), name


@pytest.mark.parametrize("kind", (PointTransformer, PointSegmenter))
def test_the_order_of_points_does_not_matter_once_the_first_one_is_fixed(kind):
    net, batch = model(kind), points()
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(63)])
    with torch.no_grad():
        expected, found = net(batch), net(batch[:, order])
    if kind is PointSegmenter:
        expected = expected[:, order]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_attention_is_the_formula():
    net, batch = model(), points(1, 20)
    level, block = pyramid(batch[..., :3], 1)[0], net.blocks[0]
    with torch.no_grad():
        x = net.embed(batch)
        h = block.expand(x)[0]
        out = []
        for i in range(20):
            near = level.neighbours[0, i]
            delta = block.position(batch[0, i, :3] - batch[0, near, :3])
            weights = (block.gamma(block.query(h[i]) - block.key(h[near]) + delta) / 12**0.5).softmax(0)
            out.append((weights * (block.value(h[near]) + delta)).sum(0))
        expected = x[0] + block.reduce(torch.stack(out))
        torch.testing.assert_close(block(x, level.xyz, level.neighbours)[0], expected)


@pytest.mark.parametrize("grouped", (True, False))
@pytest.mark.parametrize("kind", (PointTransformer, PointSegmenter))
def test_sizes_follow_from_the_weights(kind, grouped):
    options = {"grouped": grouped, "hidden": (7, 6)} | ({"bottleneck": 11} if kind is PointSegmenter else {})
    net = model(kind, **options)
    copy = build(net.state_dict(), "x").eval()
    assert type(copy) is kind
    load_state(copy, net.state_dict(), "x")
    with torch.no_grad():
        assert torch.equal(copy(points()), net(points()))


def test_foreign_weights_are_named():
    with pytest.raises(UserError, match="'other.pt' are not those of a Point Transformer"):
        build({"conv.weight": torch.zeros(3, 3)}, "other.pt")


def test_every_unit_exists_and_covers_all_layers():
    for kind in (PointTransformer, PointSegmenter):
        net = model(kind)
        inside = {id(p) for unit in net.units() for p in net.get_submodule(unit).parameters()}
        assert inside == {id(p) for p in net.parameters()}


def test_a_public_checkpoint_classifies_as_its_authors_say(shared):
    from aiqvit.tasks.modelnet40 import ModelNet40

    task = ModelNet40(str(shared / "data" / "modelnet40_normal_resampled"))
    source = str(shared / "weights" / "point_transformer_modelnet40.pt")
    state = own_keys(read_state(source))
    assert "downs.3.mlp.0.weight" in state
    subject = task.load("point_transformer", source)
    found = task.evaluate(subject.model, subject, limit=33, batch_size=11, device="cpu",
                          progress=lambda items, *_, **__: items)
    assert found["images"] == 33 and found["oa"] > 90  # 192 of all 198
