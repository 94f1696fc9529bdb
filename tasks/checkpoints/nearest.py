"""What network a state belongs to, told by its keys and shapes."""

from __future__ import annotations

import re

from torch import Tensor

State = dict[str, Tensor]

VITS = {  # width, depth, patch -> names that --model takes
    (192, 12, 16): ("deit_tiny", "vit_tiny"),
    (384, 12, 16): ("deit_small", "vit_small"),
    (768, 12, 16): ("deit_base", "vit_base"),
    (384, 12, 32): ("vit_small_patch32_224",),
    (768, 12, 32): ("vit_base_patch32_224",),
    (768, 12, 8): ("vit_base_patch8_224",),
    (384, 12, 8): ("vit_small_patch8_224.dino",),
    (1024, 24, 16): ("vit_large_patch16_224",),
    (1024, 24, 32): ("vit_large_patch32_384",),
    (1280, 32, 14): ("vit_huge_patch14_224",),
    (96, 6, 8): ("mini_vit",),
}
DISTILLED = {192: "deit_tiny_distilled_patch16_224", 384: "deit_small_distilled_patch16_224",
             768: "deit_base_distilled_patch16_224", 96: "mini_deit"}
SWINS = {  # width, blocks of each stage, patch
    (96, (2, 2, 6, 2), 4): ("swin_tiny",),
    (96, (2, 2, 18, 2), 4): ("swin_small",),
    (128, (2, 2, 18, 2), 4): ("swin_base",),
    (192, (2, 2, 18, 2), 4): ("swin_large_patch4_window7_224",),
    (32, (2, 2, 2), 4): ("mini_swin",),
}
FOREIGN = (  # a key that only such networks have -> what they are
    (r"roi_head\.|rpn_head\.|bbox_head\.", "a detector (--task coco)"),
    (r"transformer_initial\.|blocks\.\d+\.gamma\.", "a Point Transformer (--task modelnet40 or shapenetpart)"),
    (r"layer[1-4]\.\d+\.conv\d\.", "a ResNet, which is no vision transformer"),
    (r"visual\.transformer\.resblocks|text_model\.|transformer\.resblocks", "CLIP, of which the head is missing"),
    (r"decoder_blocks\.", "a masked autoencoder before fine-tuning, without a head"),
    (r"(quantizer|zero_point|scale_?s?)$", "a network that is quantized already"),
)
HEADS = ("head.weight", "head.fc.weight", "head.l.weight", "heads.head.weight", "head.linear.weight",
         "classifier.weight", "cls_classifier.weight", "fc.weight", "head.layers.head.weight", "head.fc2.weight")


def look(state: State) -> str:
    """Half a sentence on the network that the state would fit; "" where nothing can be told."""
    if names := candidates(state):
        named = " and of ".join(names)
        return f"; they have the shapes of {named}: try --model {names[0]}"
    foreign = next((what for pattern, what in FOREIGN if any(re.search(pattern, key) for key in state)), "")
    if foreign:
        return f"; they look like those of {foreign}"
    if sizes := _sizes(state):
        width, depth, patch = sizes
        return f"; they have width {width}, depth {depth} and patch size {patch}: give --model its name in timm"
    return ""


def candidates(state: State) -> list[str]:
    """Names of models that have the shapes of a ViT's, DeiT's or Swin's state."""
    sizes = _sizes(state)
    if sizes and "dist_token" in state:
        name = DISTILLED.get(sizes[0])
        return [name] if name and sizes[1:] in ((12, 16), (6, 8)) else []
    return list(VITS.get(sizes) or SWINS.get(sizes) or ()) if sizes else []


def _sizes(state: State) -> tuple[int, int | tuple[int, ...], int] | None:
    """Width, depth and patch size; None for a state without a patch embedding and blocks."""
    patch = next((v for k, v in state.items() if k.endswith("patch_embed.proj.weight")), None)
    if patch is None or patch.dim() != 4:
        return None
    flat = [int(found[1]) for key in state if (found := re.search(r"(?:^|\.)blocks\.(\d+)\.", key))]
    staged = [(int(found[1]), int(found[2])) for key in state
              if (found := re.search(r"(?:^|\.)layers\.(\d+)\.blocks\.(\d+)\.", key))]
    if staged:
        stages = range(max(stage for stage, _ in staged) + 1)
        return (patch.shape[0], tuple(max((b for s, b in staged if s == stage), default=-1) + 1 for stage in stages),
                patch.shape[-1])
    return (patch.shape[0], max(flat) + 1, patch.shape[-1]) if flat else None


def classes_in(state: State) -> int | None:
    """How many classes the head of a classifier's state has; None where no head can be told.

    Keys of timm, of the authors of ViT, DeiT and Swin, of torchvision and of transformers are known, behind any prefix.
    """
    for head in HEADS:
        found = [v for k, v in state.items() if (k == head or k.endswith(f".{head}")) and v.dim() == 2]
        if len(found) == 1:
            return found[0].shape[0]
    return None
