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
    for name, message in (("evil.pth", "safely"), ("text.safetensors", "safely"), ("empty.pth", "no tensors")):
        with pytest.raises(UserError, match=message):
            read_state(tmp_path / name)


def test_checksum_follows_the_values():
    net = nn.BatchNorm1d(3)
    before = checksum(net)
    assert before == checksum(nn.BatchNorm1d(3)) and len(before) == 64
    net.weight.data[0] = 2
    assert checksum(net) != before
