"""Ranges found anew for each token."""

import pytest
import torch

from aiqvit.quant.quantizers import DynamicUniform, Uniform
from aiqvit.quant.site import Site


@pytest.mark.parametrize("bits", (2, 4, 8))
def test_each_token_is_quantized_as_if_it_were_a_tensor_of_its_own(bits):
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 1.0, 100.0])[:, None]
    x[0, 0] = x[0, 0].abs() + 0.5  # 0 is in the range all the same
    q = DynamicUniform(bits)
    found = q.fake(x)
    for image in range(2):
        for token in range(3):
            own = Uniform(bits)
            own.set_range(x[image, token].min()[None], x[image, token].max()[None])
            assert torch.equal(found[image, token], own.fake(x[image, token]))
            assert len(found[image, token].unique()) <= 2**bits


def test_codes_are_in_range_and_give_the_fake_quantizer():
    x, q = torch.randn(4, 5, 16, generator=torch.Generator().manual_seed(1)), DynamicUniform(3)
    codes = q.encode(x)
    assert codes.dtype == torch.int32 and codes.min() == 0 and codes.max() == 7
    assert torch.equal(q.decode(codes), q.fake(x))
    with pytest.raises(ValueError, match="none was"):
        DynamicUniform(3).decode(codes)


def test_a_token_is_along_the_channels_in_front_of_a_convolution():
    x, q = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(2)), DynamicUniform(4)
    q.site = Site(token_axis=1)
    plain = DynamicUniform(4)
    assert torch.equal(q.fake(x), plain.fake(x.movedim(1, -1)).movedim(-1, 1))


def test_the_gradient_is_that_of_the_identity_and_a_constant_token_stays():
    x = torch.randn(3, 6, requires_grad=True)
    DynamicUniform(2).fake(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(3, 6))
    assert torch.equal(DynamicUniform(4).fake(torch.zeros(2, 3)), torch.zeros(2, 3))
    torch.testing.assert_close(DynamicUniform(4).fake(torch.full((2, 3), 0.7)), torch.full((2, 3), 0.7))
