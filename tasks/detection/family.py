"""What aiqvit has to know of Mask R-CNN and Cascade Mask R-CNN with Swin, in MMDetection's implementation."""

from __future__ import annotations

from aiqvit.tasks.detection.swin import Block, Mlp, WindowAttention
from mmdet.models.backbones.swin import SwinBlock
from mmdet.models.detectors.two_stage import TwoStageDetector
from mmdet.models.layers import PatchMerging
from torch import nn

from aiqvit.families.family import Family, activation, feeding
from aiqvit.quant.anatomy import Anatomy, Heads

PREDICTORS = ("rpn_cls", "rpn_reg", "fc_cls", "fc_reg", "conv_logits")  # the layers whose outputs are the predictions


def attention(module: WindowAttention) -> Anatomy:
    """Padding of the map comes behind qkv, so that a norm in front can be folded; heads may be rotated.

    From here on methods may change the bias that it was made from, so it becomes part of the state.
    """
    module.register_buffer("padding", module.padding)
    heads = Heads(module.num_heads, (("qkv", 0, 3), ("qkv", 1, 3)), (("qkv", 2, 3),), "proj", "padding")
    return Anatomy(roles={"qkv": "qkv", "proj": "proj"}, reads=("qkv",), writes=("proj",), heads=heads)


def mlp(module: Mlp) -> Anatomy:
    """fc1, activation, fc2."""
    return Anatomy(roles={"fc1": "fc1", "fc2": "fc2"}, reads=("fc1",), writes=("fc2",),
                   activations={"fc2": activation(module.act, "act")}, functions={"fc2": "act"})


def block(module: Block) -> Anatomy:
    """A norm in front of attention and one in front of the feed-forward network."""
    return Anatomy(feeds=feeding(module, [("norm1", "attn"), ("norm2", "mlp")]), residual=("attn.proj", "mlp.fc2"))


def merging(module: PatchMerging) -> Anatomy:
    """Four pixels side by side, a norm, one layer, which starts a new residual stream."""
    return Anatomy(roles={"reduction": "reduction"}, feeds=feeding(module, [("norm", "reduction")]),
                   residual=("reduction",))


def network(detector: TwoStageDetector) -> Anatomy:
    """Units in forward order: patch embedding, blocks, patch mergings, each convolution of the FPN.

    The heads get their ranges only; the transposed convolution of the mask heads stays in full precision.
    """
    units = ["backbone.patch_embed"]
    for i, stage in enumerate(detector.backbone.stages):
        units += [f"backbone.stages.{i}.blocks.{j}" for j in range(len(stage.blocks))]
        if stage.downsample is not None:
            units.append(f"backbone.stages.{i}.downsample")
    convs = ("lateral_convs", "fpn_convs")
    units += [f"neck.{kind}.{i}" for kind in convs for i in range(len(getattr(detector.neck, kind)))]
    roles = {"backbone.patch_embed.projection": "patch_embed"}
    for part, root in (("neck", "neck"), ("rpn", "rpn_head"), ("roi", "roi_head")):
        for name, module in detector.get_submodule(root).named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                roles[f"{root}.{name}"] = "head" if name.rpartition(".")[2] in PREDICTORS else part
    why = {name: "transposed convolution of the mask head" for name, module in detector.named_modules()
           if isinstance(module, nn.ConvTranspose2d)}
    return Anatomy(roles=roles, units=tuple(units), full_precision=why)


FAMILY = Family(
    opens={SwinBlock: Block},
    describes={WindowAttention: attention, Mlp: mlp, Block: block, PatchMerging: merging},
    networks={TwoStageDetector: network},
)
