"""Opened attention takes masks as its source does."""

from __future__ import annotations

import pytest
import torch
from timm.layers import Attention, AttentionPoolLatent, AttentionRope, DiffAttention
from timm.models.eva import EvaAttention
from timm.models.vision_transformer import DiffParallelScalingBlock, ParallelScalingBlock
from torch import nn

from aiqvit.families.opening import open_model
from tests.families.networks import randomize

N = 5
SOURCES = {
    "attention": lambda: Attention(24, 3),
    "rope": lambda: AttentionRope(24, 3, qkv_fused=False, num_kv_heads=1),
    "eva": lambda: EvaAttention(24, 3, scale_norm=False),
    "diff": lambda: DiffAttention(24, 2),
    "parallel": lambda: ParallelScalingBlock(24, 3),
    "diff_parallel": lambda: DiffParallelScalingBlock(24, 2),
    "pool": lambda: AttentionPoolLatent(24, num_heads=3, latent_len=2, pool_type=""),
}
MASKS = {
    "causal": {"is_causal": True},
    "boolean": {"attn_mask": torch.ones(N, N, dtype=torch.bool).tril()},
    "added": {"attn_mask": torch.arange(N * N).view(N, N) / 10},
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("source", SOURCES)
@torch.no_grad()
def test_a_mask_means_the_same(source, mask):
    torch.manual_seed(0)
    model = nn.Sequential(randomize(SOURCES[source]())).eval()
    options = dict(MASKS[mask])
    if source == "pool":  # of its two queries, and causal means nothing there
        options = {key: value[:2] for key, value in options.items() if key == "attn_mask"}
    x = torch.randn(2, N, 24)
    expected = model[0](x, **options)
    torch.testing.assert_close(open_model(model)[0](x, **options), expected)
    if options:
        assert not torch.allclose(model[0](x), expected)
