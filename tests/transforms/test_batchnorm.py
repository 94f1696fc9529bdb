"""Folding of batch normalization: the same function, and nothing left of it."""

import pytest
import torch
from torch import nn

from aiqvit.transforms.batchnorm import fold_batchnorm


def random_norm(kind: type, width: int, affine: bool = True) -> nn.Module:
    norm = kind(width, affine=affine)
    norm.running_mean, norm.running_var = torch.randn(width), torch.rand(width) * 3 + 0.05
    if affine:
        norm.weight.data, norm.bias.data = torch.randn(width), torch.randn(width)
    return norm


@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("affine", (True, False))
def test_the_function_stays_the_same(bias, affine):
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Linear(5, 4, bias=bias), random_norm(nn.BatchNorm1d, 4, affine), nn.ReLU(),
                           nn.Linear(4, 3, bias=bias), random_norm(nn.BatchNorm1d, 3, affine))
    conv = nn.Sequential(nn.Conv2d(3, 6, 3, bias=bias), random_norm(nn.BatchNorm2d, 6, affine), nn.ReLU())
    for net, x in ((linear, torch.randn(7, 5)), (conv, torch.randn(2, 3, 8, 8))):
        net = nn.ModuleDict({"inner": net}).eval()
        with torch.no_grad():
            expected = net["inner"](x)
            found = fold_batchnorm(net)["inner"](x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert not any("BatchNorm" in type(module).__name__ for module in net.modules())


def test_a_norm_behind_something_else_is_left_alone():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4)).eval()
    assert isinstance(fold_batchnorm(net)[2], nn.BatchNorm1d)
