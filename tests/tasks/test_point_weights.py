"""Checkpoints of the widely used re-implementation, by its key names; a hint for those of others."""

import pytest
import torch
from aiqvit.tasks.models.point_transformer import PointSegmenter, PointTransformer
from aiqvit.tasks.models.point_weights import build, own_keys
from aiqvit.tasks.weights import load_state, read_checkpoint

from aiqvit.interfaces import UserError

BLOCK = {"expand": "fc1", "reduce": "fc2", "query": "w_qs", "key": "w_ks", "value": "w_vs", "position": "fc_delta",
         "gamma": "fc_gamma"}


def theirs(net) -> dict[str, torch.Tensor]:
    """The state of a network under the names and in the shapes of the re-implementation."""
    segments, found = isinstance(net, PointSegmenter), {}
    for key, value in net.state_dict().items():
        part, *rest = key.split(".")
        if part == "embed":
            name = ["backbone", "fc1", *rest]
        elif part in ("classifier", "bottleneck"):
            name = ["fc3" if segments and part == "classifier" else "fc2", *rest]
        elif part == "blocks":
            number, inner, *rest = rest
            where = ["transformer1"] if number == "0" else ["transformers", str(int(number) - 1)]
            name = ["backbone", *where, BLOCK[inner], *rest]
        elif part == "bottom":
            name = ["transformer2", BLOCK[rest[0]], *rest[1:]]
        elif part == "up_blocks":
            name = ["transformers", rest[0], BLOCK[rest[1]], *rest[2:]]
        elif part == "ups":  # linear, swap, norm, swap, ReLU
            layer = {"coarse": "fc1", "fine": "fc2"}[rest[1]]
            name = ["transition_ups", rest[0], layer, str(2 * int(rest[2])), rest[3]]
        else:  # downs: N, mlp, layer
            kind = "mlp_convs" if int(rest[2]) % 3 == 0 else "mlp_bns"
            name = ["backbone", "transition_downs", rest[0], "sa", kind, str(int(rest[2]) // 3), rest[3]]
            value = value[..., None, None] if value.dim() == 2 else value
        found[".".join(name)] = value
    return found


def network(kind):
    torch.manual_seed(0)
    net = kind(9, 5, (8, 16, 24), 12)
    net(torch.randn(4, 64, 9))  # batch statistics that are not the initial ones
    return net.eval()


@pytest.mark.parametrize("kind", (PointTransformer, PointSegmenter))
def test_its_keys_are_ours(kind):
    net = network(kind)
    state = theirs(net)
    known = {"backbone.fc1.2.bias", "backbone.transformer1.fc_delta.0.weight", "backbone.transformers.1.w_vs.weight",
             "backbone.transition_downs.0.sa.mlp_convs.1.weight", "fc2.4.bias",
             "backbone.transition_downs.1.sa.mlp_bns.1.running_var"}
    if kind is PointSegmenter:
        known |= {"transformer2.fc_gamma.2.weight", "transition_ups.1.fc2.2.running_mean", "fc3.4.weight",
                  "transformers.1.fc1.weight", "transition_ups.0.fc1.0.weight"}
    assert known <= state.keys()
    renamed = own_keys(state)
    assert renamed.keys() == net.state_dict().keys()
    again = build(renamed, "w")
    load_state(again, renamed, "w")
    points = torch.randn(2, 64, 9)
    with torch.no_grad():
        assert type(again) is kind and torch.equal(again.eval()(points), net(points))


def test_a_classifier_without_a_backbone_of_its_own():
    net = network(PointTransformer)
    state = {key.removeprefix("backbone."): value for key, value in theirs(net).items()}
    assert own_keys(state).keys() == net.state_dict().keys()


def test_our_own_keys_stay():
    state = network(PointSegmenter).state_dict()
    assert own_keys(state) is state


def test_others_are_named_with_a_hint():
    with pytest.raises(UserError, match="look like a Point Transformer of another code base: known are"):
        build(own_keys({"enc1.0.linear.weight": torch.zeros(2), "enc1.1.transformer2.linear_q.weight": torch.zeros(2)}),
              "w.pth")
    with pytest.raises(UserError, match="the first of 1 keys is 'conv1.weight'"):
        build(own_keys({"conv1.weight": torch.zeros(2)}), "w.pth")


@pytest.mark.parametrize("kind", (PointTransformer, PointSegmenter))
def test_the_file_that_its_training_writes_is_read(kind, tmp_path):
    net, path, x = network(kind), tmp_path / "best_model.pth", torch.randn(2, 64, 9)
    state = {f"module.{key}": value for key, value in theirs(net).items()}
    torch.save({"epoch": 7, "test_acc": 0.9, "model_state_dict": state,
                "optimizer_state_dict": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": []}}, path)
    found = own_keys(read_checkpoint(str(path))[0])
    again = build(found, str(path))
    load_state(again, found, str(path))
    with torch.no_grad():
        assert torch.equal(again.eval()(x), net(x))
