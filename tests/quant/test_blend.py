import pytest
import torch

from aiqvit.quant.blend import blend


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_the_second_tensor(share):
    torch.manual_seed(0)
    mixed = blend(torch.zeros(3, 50, 71), torch.ones(3, 50, 71), share)
    assert set(mixed.unique().tolist()) <= {0.0, 1.0}
    assert abs(mixed.mean().item() - share) < 0.015  # 3 standard deviations of 10,650 draws


def test_neighbours_and_draws_are_independent():
    torch.manual_seed(0)
    first, second = (blend(torch.zeros(20000), torch.ones(20000), 0.5) - 0.5 for _ in range(2))
    assert abs((first * second).mean()) < 0.006
    for lag in (1, 7, 8, 64):
        assert abs((first[lag:] * first[:-lag]).mean()) < 0.006


def test_gradients_follow_the_elements():
    torch.manual_seed(0)
    a, b = torch.zeros(40, requires_grad=True), torch.ones(40, requires_grad=True)
    mixed = blend(a, b, 0.5)
    mixed.sum().backward()
    assert torch.equal(b.grad, mixed.detach()) and torch.equal(a.grad, 1 - mixed.detach())
