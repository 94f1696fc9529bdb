"""timm's Vision Transformers: ViT, DeiT, DINOv2, CLIP and SigLIP towers, with all their blocks."""

from __future__ import annotations

from timm.models.vision_transformer import (
    Block,
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)

from aiqvit.families.family import Family, feeding, read_by, scaled, writes
from aiqvit.families.timm_layers import plain
from aiqvit.families.timm_parallel import DiffParallelBlock, ParallelBlock
from aiqvit.quant.anatomy import Anatomy


def pre_norm(block: Block) -> Anatomy:
    """A norm in front of attention and one in front of the feed-forward network."""
    return Anatomy(feeds=feeding(block, [("norm1", "attn"), ("norm2", "mlp")]), residual=writes(block, "attn", "mlp"),
                   scales=scaled(block, [("attn", "ls1"), ("mlp", "ls2")]))


def post_norm(block: ResPostBlock) -> Anatomy:
    """The norms stand behind attention and feed-forward network and feed no layer; these read the residual stream."""
    return Anatomy(residual=("norm1", "norm2"), unnormed=read_by(block, "attn", "mlp"))


def parallel_things(block: ParallelThingsBlock) -> Anatomy:
    """Several attentions side by side, then several feed-forward networks, each behind its norm."""
    parts = [(f"attns.{i}", "attn") for i in range(len(block.attns))]
    parts += [(f"ffns.{i}", "mlp") for i in range(len(block.ffns))]
    return Anatomy(feeds=feeding(block, [(f"{at}.norm", f"{at}.{kind}") for at, kind in parts]),
                   residual=writes(block, *(f"{at}.{kind}" for at, kind in parts)),
                   scales=scaled(block, [(f"{at}.{kind}", f"{at}.ls") for at, kind in parts]))


FAMILY = Family(
    opens={ParallelScalingBlock: ParallelBlock, DiffParallelScalingBlock: DiffParallelBlock},
    describes={Block: pre_norm, ResPostBlock: post_norm, ParallelThingsBlock: parallel_things},
    networks={VisionTransformer: plain},
)
