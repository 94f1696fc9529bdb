"""Losses against explicit sums."""

import torch

from aiqvit.recon.objective import divergence, frobenius, power, relative, squared, token, tokenwise


def test_losses_are_the_explicit_sums():
    a, b = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    explicit = sum((a[i] - b[i]).norm() for i in range(3)) / 3
    torch.testing.assert_close(frobenius(a, b).mean(), explicit)
    torch.testing.assert_close(squared(a, b).mean(), ((a - b) ** 2).sum() / 60)
    torch.testing.assert_close(power(a, b).mean(), ((a - b).abs() ** 2.4).sum() / 60)
    p, q = a[:, 0].softmax(1), b[:, 0].softmax(1)
    torch.testing.assert_close(divergence(a[:, 0], b[:, 0]).mean(), (q * (q / p).log()).sum() / 3)
    by_channel = sum(((a - b)[..., c] ** 2).sum() / (b[..., c] ** 2).sum() for c in range(5)) / 5
    in_all = ((a - b) ** 2).sum() / (b**2).sum()
    torch.testing.assert_close(relative(a, b).mean(), by_channel + in_all)
    torch.testing.assert_close(relative(a * 100, b * 100).mean(), by_channel + in_all)


def test_tokenwise_counts_a_token_of_huge_values_like_any_other():
    a, b = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    size = (b**2).sum((0, 1)).div(12).sqrt()
    shares = [((x - y) / size).norm() ** 2 / (y / size).norm() ** 2
              for x, y in zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)]
    torch.testing.assert_close(tokenwise(a, b).mean(), sum(shares) / 12)
    b[0, 0] = 1e4
    clipped = b.clone()
    clipped[0, 0] = 0.0
    torch.testing.assert_close(tokenwise(clipped, b).mean(), torch.tensor(1 / 12), rtol=1e-3, atol=0)  # one in twelve
    assert relative(clipped, b).mean() > 1.0
    assert tokenwise(torch.ones(2, 3), torch.zeros(2, 3)).mean().isfinite()  # a dead token
    assert token(torch.ones(2, 3), torch.zeros(2, 3)).mean().isfinite()
    torch.testing.assert_close(token(clipped, b).mean(), torch.tensor(1 / 12), rtol=5e-2, atol=0)
    calm = b[1:]
    explicit = sum((x - y).norm() ** 2 / y.norm() ** 2 for x, y in
                   zip(a[1:].flatten(0, 1), calm.flatten(0, 1), strict=True)) / 8
    torch.testing.assert_close(token(a[1:], calm).mean(), explicit, rtol=1e-1, atol=0)  # but for a small token's floor
