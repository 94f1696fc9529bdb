"""Weight files."""

import pytest
import torch
from aiqvit.tasks.weights import checksum, load_state, read_state
from torch import nn

from aiqvit.interfaces import UserError


class Evil:
    """Something that only an unsafe load would build."""


def test_torch_files_are_unwrapped_and_cast(tmp_path):
    net = nn.Linear(2, 3)
    half = {f"module.{k}": v.half() for k, v in net.state_dict().items()}
    torch.save({"model": half, "epoch": 3}, tmp_path / "a.pth")
    other = nn.Linear(2, 3)
    load_state(other, read_state(tmp_path / "a.pth"), "a.pth")
    assert other.weight.dtype == torch.float32
    assert torch.equal(other.weight, net.weight.half().float())


def test_unsafe_unreadable_and_empty_files(tmp_path):
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    for name, message in (("evil.pth", "no tensors"), ("text.safetensors", "unknown format"),
                          ("empty.pth", "no tensors by name, but 'epoch'")):
        with pytest.raises(UserError, match=message):
            read_state(tmp_path / name)


def test_weights_that_are_not_finite_are_refused_by_name():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = {key: value.clone() for key, value in net.state_dict().items()}
    state["0.weight"][1, :] = float("nan")
    with pytest.raises(UserError, match=r"'x' are not finite: 2 of 6 values of 0.weight are NaN or infinite: give"):
        load_state(net, state, "x")
    state["1.running_var"] = torch.tensor([1.0, float("inf"), 1.0])
    with pytest.raises(UserError, match="0.weight are NaN or infinite, and 1 more tensors have some"):
        load_state(net, state, "x")
    wide = {**nn.Linear(2, 3).state_dict(), "bias": torch.tensor([1e300, 0, 0], dtype=torch.float64)}
    with pytest.raises(UserError, match="1 of 3 values of bias"):  # beyond single precision
        load_state(nn.Linear(2, 3), wide, "x")


def test_integers_in_place_of_weights_are_refused():
    with pytest.raises(UserError, match="weight is int8 and no float"):
        load_state(nn.Linear(2, 3), {"weight": torch.ones(3, 2, dtype=torch.int8), "bias": torch.ones(3)}, "x")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(kind):
    net = nn.Linear(2, 3)
    load_state(net, {key: value.to(kind) for key, value in net.state_dict().items()}, "x")
    assert net.weight.dtype == torch.float32


def test_checksum_follows_the_values():
    net = nn.BatchNorm1d(3)
    before = checksum(net)
    assert before == checksum(nn.BatchNorm1d(3)) and len(before) == 64
    net.weight.data[0] = 2
    assert checksum(net) != before
