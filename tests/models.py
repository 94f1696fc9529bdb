"""Tiny untrained models of each family for tests."""

import torch
from aiqvit.tasks.models.point_transformer import PointSegmenter, PointTransformer
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.site import QuantSpec, RoleScheme, by_role, spec

FAMILIES = ("vit", "deit", "swin")


def uniform(weight: int = 4, activation: int = 4, **activations: QuantSpec) -> RoleScheme:
    """Uniform quantizers, weights per channel, activations per tensor but for the roles named; the image has 8 bits."""
    return by_role({"default": spec(Uniform, weight, 0)},
                   {"default": spec(Uniform, activation), "image": spec(Uniform, 8), **activations})


def channelwise(bits: int = 4) -> QuantSpec:
    """Post-LayerNorm activations with a range a channel, to be reparameterized."""
    return spec(Uniform, bits, -1, include_zero=False)


def tiny(family: str) -> torch.nn.Module:
    """A model of about 50,000 parameters on 32 x 32 images with non-trivial LayerNorms, and eval mode."""
    torch.manual_seed(0)
    if family == "swin":
        model = SwinTransformer(img_size=32, patch_size=4, window_size=4, embed_dim=16, depths=(2, 2),
                                num_heads=(2, 4), num_classes=7)
    else:
        layout = {"vit": VisionTransformer, "deit": VisionTransformerDistilled}[family]
        model = layout(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=7)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.data = torch.rand_like(module.weight) * 3 + 0.1
            module.bias.data = torch.randn_like(module.bias)
        elif isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.weight.data = torch.randn_like(module.weight) / module.weight[0].numel() ** 0.5
    return model.eval()


def units(family: str) -> tuple[str, ...]:
    """Reconstruction units in forward order."""
    return {
        "vit": ("patch_embed", "blocks.0", "blocks.1", "head"),
        "deit": ("patch_embed", "blocks.0", "blocks.1", "head", "head_dist"),
        "swin": ("patch_embed", "layers.0.blocks.0", "layers.0.blocks.1", "layers.1.downsample", "layers.1.blocks.0",
                 "layers.1.blocks.1", "head.fc"),
    }[family]


def images(count: int = 8, seed: int = 0) -> torch.Tensor:
    """Random images, (count, 3, 32, 32)."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def tiny_points(kind: str) -> torch.nn.Module:
    """A Point Transformer, "classifier" or "segmenter", with batch statistics of random points, in eval mode."""
    torch.manual_seed(0)
    model = {"classifier": PointTransformer, "segmenter": PointSegmenter}[kind](6, 5, (8, 16), 12, hidden=(12, 10))
    model.train()
    with torch.no_grad():
        model(clouds(16, seed=1))
    return model.eval()


def clouds(count: int = 8, seed: int = 0) -> torch.Tensor:
    """Random points with normals, (count, 32, 6)."""
    return torch.randn(count, 32, 6, generator=torch.Generator().manual_seed(seed))
