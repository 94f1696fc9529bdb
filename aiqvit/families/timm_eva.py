"""timm's EVA layout: EVA, EVA-02, ViTs with rotary position embedding, Perception Encoder, DINOv3."""

from __future__ import annotations

from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm

from aiqvit.families.family import Family, feeding, read_by, scaled, writes
from aiqvit.families.timm_attention import RopeAttention
from aiqvit.families.timm_layers import plain
from aiqvit.quant.anatomy import Anatomy


def pre_norm(block: EvaBlock) -> Anatomy:
    """A norm in front of attention and one in front of the feed-forward network."""
    return Anatomy(feeds=feeding(block, [("norm1", "attn"), ("norm2", "mlp")]), residual=writes(block, "attn", "mlp"),
                   scales=scaled(block, [("attn", "gamma_1"), ("mlp", "gamma_2")]))


def post_norm(block: EvaBlockPostNorm) -> Anatomy:
    """The norms stand behind attention and feed-forward network and feed no layer."""
    return Anatomy(residual=("norm1", "norm2"), unnormed=read_by(block, "attn", "mlp"))


FAMILY = Family(
    opens={EvaAttention: RopeAttention},
    describes={EvaBlock: pre_norm, EvaBlockPostNorm: post_norm},
    networks={Eva: plain},
)
