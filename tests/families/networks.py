"""Small random networks of every family, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from timm.layers import RmsNorm
from timm.layers.mlp import SwiGLU, SwiGLUPacked
from timm.models import vision_transformer as vit
from timm.models.beit import Beit
from timm.models.cait import Cait
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn
from torchvision.models import swin_transformer as tv_swin
from torchvision.models.vision_transformer import ConvStemConfig
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionViT

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 7}
EVA = SMALL | {"embed_dim": 48}
WINDOWS = {"img_size": 32, "patch_size": 4, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4),
           "num_classes": 7}
TV_WINDOWS = {"patch_size": [4, 4], "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "num_classes": 7}
ROPE = {"use_rot_pos_emb": True, "use_abs_pos_emb": False, "class_token": False, "global_pool": "avg"}

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": partial(vit.VisionTransformer, **SMALL),
    "vit_gap": partial(vit.VisionTransformer, **SMALL, class_token=False, global_pool="avg", fc_norm=False),
    "vit_registers": partial(vit.VisionTransformer, **SMALL, reg_tokens=4, no_embed_class=True, init_values=0.1),
    "vit_qk_norm": partial(vit.VisionTransformer, **SMALL, qk_norm=True, scale_attn_norm=True, scale_mlp_norm=True),
    "vit_no_bias": partial(vit.VisionTransformer, **SMALL, qkv_bias=False, proj_bias=False),
    "vit_rms": partial(vit.VisionTransformer, **SMALL, norm_layer=RmsNorm),
    "vit_post_norm": partial(vit.VisionTransformer, **SMALL, block_fn=vit.ResPostBlock),
    "vit_parallel": partial(vit.VisionTransformer, **SMALL, block_fn=vit.ParallelScalingBlock, init_values=0.1),
    "vit_parallel_fused": partial(vit.VisionTransformer, **SMALL, qkv_bias=False, qk_norm=True,
                                  block_fn=partial(vit.ParallelScalingBlock, fuse_out_proj=True)),
    "vit_things": partial(vit.VisionTransformer, **SMALL, block_fn=vit.ParallelThingsBlock, init_values=0.1),
    "vit_diff": partial(vit.VisionTransformer, **SMALL | {"num_heads": 2}, attn_layer="diff", scale_attn_norm=True),
    "vit_diff_parallel": partial(vit.VisionTransformer, **SMALL | {"num_heads": 2}, qk_norm=True,
                                 block_fn=partial(vit.DiffParallelScalingBlock, dual_lambda=True)),
    "vit_swiglu": partial(vit.VisionTransformer, **SMALL, mlp_layer=SwiGLU),
    "vit_swiglu_packed": partial(vit.VisionTransformer, **SMALL, mlp_layer=SwiGLUPacked),
    "clip": partial(vit.VisionTransformer, **SMALL, pre_norm=True, act_layer="quick_gelu"),
    "siglip": partial(vit.VisionTransformer, **SMALL, class_token=False, global_pool="map", act_layer="gelu_tanh"),
    "vit_prr": partial(vit.VisionTransformer, **SMALL, global_pool="prr"),
    "deit": partial(VisionTransformerDistilled, **SMALL),
    "eva": partial(Eva, **EVA),
    "eva02": partial(Eva, **EVA, swiglu_mlp=True, use_rot_pos_emb=True),
    "eva02_scaled": partial(Eva, **EVA, qkv_fused=False, swiglu_mlp=True, scale_mlp=True, scale_attn_inner=True,
                            use_rot_pos_emb=True, init_values=0.1),
    "eva_post_norm": partial(Eva, **EVA, use_post_norm=True),
    "rope_axial": partial(Eva, **EVA, **ROPE, attn_type="rope", init_values=0.1),
    "rope_mixed": partial(Eva, **EVA, **ROPE, attn_type="rope", rope_type="mixed"),
    "rope_shared_keys": partial(Eva, **EVA, **ROPE, attn_type="rope", qkv_fused=False, num_kv_heads=1, qk_norm=True),
    "dinov3": partial(Eva, **EVA, attn_type="rope", rope_type="dinov3", use_rot_pos_emb=True, use_abs_pos_emb=False,
                      num_reg_tokens=4, qkv_bias=False, init_values=0.1, rope_rotate_half=True, global_pool="token"),
    "perception": partial(Eva, **EVA, attn_type="rope", use_rot_pos_emb=True, use_pre_transformer_norm=True,
                          use_post_transformer_norm=True, global_pool="map", use_fc_norm=False, attn_pool_num_heads=4),
    "beit": partial(Beit, **SMALL, use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.1),
    "beit_shared": partial(Beit, **SMALL, use_shared_rel_pos_bias=True, swiglu_mlp=True, scale_mlp=True,
                           use_fc_norm=False),
    "cait": partial(Cait, **SMALL, init_values=0.1),
    "swin": partial(SwinTransformer, **WINDOWS),
    "swin_padded": partial(SwinTransformer, **WINDOWS | {"window_size": 3}),
    "swinv2": partial(SwinTransformerV2, **WINDOWS),
    "swinv2_padded": partial(SwinTransformerV2, **WINDOWS | {"window_size": 3}),
    "tv_vit": partial(TorchvisionViT, 32, 8, 2, 3, 24, 48, num_classes=7),
    "tv_vit_stem": partial(TorchvisionViT, 32, 8, 2, 3, 24, 48, num_classes=7, representation_size=10,
                           conv_stem_configs=[ConvStemConfig(8, 3, 2), ConvStemConfig(12, 3, 4)]),
    "tv_swin": partial(tv_swin.SwinTransformer, **TV_WINDOWS, window_size=[4, 4]),
    "tv_swin_padded": partial(tv_swin.SwinTransformer, **TV_WINDOWS, window_size=[3, 3]),
    "tv_swinv2": partial(tv_swin.SwinTransformer, **TV_WINDOWS, window_size=[4, 4],
                         block=tv_swin.SwinTransformerBlockV2, downsample_layer=tv_swin.PatchMergingV2),
    "tv_swinv2_padded": partial(tv_swin.SwinTransformer, **TV_WINDOWS, window_size=[3, 3],
                                block=tv_swin.SwinTransformerBlockV2, downsample_layer=tv_swin.PatchMergingV2),
}


def build(name: str) -> nn.Module:
    """A network in evaluation mode with random weights, norms, biases, LayerScales and position biases."""
    torch.manual_seed(0)
    return randomize(NETWORKS[name]()).eval()


@torch.no_grad()
def randomize(model: nn.Module, seed: int = 1) -> nn.Module:
    """Matrices get unit gain, norms and LayerScales weights from 0.5 to 1.5, the rest a standard deviation of 0.2."""
    draw = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            linear = isinstance(module, nn.Linear | nn.Conv2d | nn.MultiheadAttention)
            if linear and p.dim() >= 2:
                p.copy_(torch.randn(p.shape, generator=draw) * p[0].numel() ** -0.5)
            elif name.startswith("gamma") or (name == "weight" and p.dim() == 1):
                p.copy_(torch.rand(p.shape, generator=draw) + 0.5)
            elif name not in ("logit_scale", "freqs"):
                p.copy_(torch.randn(p.shape, generator=draw) * 0.2)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=draw) * 0.2)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=draw) + 0.5)
    return model


def images(count: int = 4, size: int = 32) -> Tensor:
    """Random images, (count, 3, size, size)."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
