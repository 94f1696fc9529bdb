"""Surgery: replace a model's Linear, Conv2d and attention products by quantized ones, each site labelled by role.

Whatever the family (ViT, DeiT, Swin, Point Transformer), the result is the same list of roles; a method is then a table
role -> quantizer. Until quantizers are switched on, outputs equal the original model's. The layers of timm's models are
known by name; a layer of another model says what it is by an attribute `role`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from timm.models.swin_transformer import WindowAttention
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from aiqvit.quant.batchnorm import fold_batchnorm
from aiqvit.quant.card import sites
from aiqvit.quant.layers import QuantConv2d, QuantLayer, QuantLinear, QuantMatMul, QuantWeightedSum
from aiqvit.quant.products import WeightedSum
from aiqvit.quant.quantizers import Float, Quantizer

Scheme = Mapping[str, Callable[[], Quantizer]]
"""Role -> quantizer. Activation roles: image, post_layernorm, query, key, value, post_softmax, proj_in, post_gelu,
head, coordinates (of points: full precision unless named), other. Weight roles: weight:patch_embed, weight:qkv,
weight:proj, weight:fc1, weight:fc2, weight:reduction, weight:coordinates, weight:head, weight:other. `activation` and
`weight` stand for every other role that is not named."""

INPUT_ROLES = {
    "patch_embed": "image",
    "qkv": "post_layernorm",
    "fc1": "post_layernorm",
    "reduction": "post_layernorm",
    "proj": "proj_in",
    "fc2": "post_gelu",
    "head": "head",
    "coordinates": "coordinates",
}
NORM_PAIRS = (("norm1", "attn.qkv"), ("norm2", "mlp.fc1"), ("norm", "reduction"))


class QuantAttention(nn.Module):
    """Multi-head self-attention of timm's ViT and Swin, opened so that both products are quantized."""

    def __init__(self, source: nn.Module, scheme: Scheme) -> None:
        super().__init__()
        self.num_heads, self.scale = source.num_heads, source.scale
        self.qkv, self.proj = source.qkv, source.proj
        self.q_norm, self.k_norm = getattr(source, "q_norm", nn.Identity()), getattr(source, "k_norm", nn.Identity())
        self.norm = getattr(source, "norm", nn.Identity())
        self.qk = QuantMatMul(make(scheme, "query"), make(scheme, "key"), transposed=True)
        self.av = QuantMatMul(make(scheme, "post_softmax"), make(scheme, "value"))
        if isinstance(source, WindowAttention):
            self.relative_position_bias_table = source.relative_position_bias_table
            self.register_buffer("relative_position_index", source.relative_position_index, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None, attn_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        """x: (B, N, C) to (B, N, C). `mask`: (windows, N, N), added to the scores of shifted windows."""
        B, N, _ = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).contiguous()
        q, k, v = qkv.unbind(0)  # (B, H, N, D)
        scores = self.qk(self.q_norm(q) * self.scale, self.k_norm(k))  # (B, H, N, N)
        weights = self._biased(scores, mask, attn_mask, is_causal).softmax(dim=-1)
        x = self.av(weights, v).transpose(1, 2).reshape(B, N, -1)  # (B, N, C)
        return self.proj(self.norm(x))

    def _biased(self, scores: Tensor, mask: Tensor | None, attn_mask: Tensor | None, is_causal: bool) -> Tensor:
        if attn_mask is not None or is_causal:
            raise ValueError("attention masks are not supported in a quantized ViT")
        if not hasattr(self, "relative_position_bias_table"):
            return scores
        B, H, N, _ = scores.shape
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        scores = scores + bias.view(N, N, H).permute(2, 0, 1)
        if mask is not None:
            scores = (scores.view(-1, mask.shape[0], H, N, N) + mask[None, :, None]).view(B, H, N, N)
        return scores


def make(scheme: Scheme, role: str) -> Quantizer:
    """Build the quantizer of a role and label it."""
    kind = "weight" if role.startswith("weight:") else "activation"
    quantizer = scheme.get(role, Float if role == "coordinates" else scheme[kind])()
    quantizer.role = role.removeprefix("weight:")
    return quantizer


def role_of(name: str, module: nn.Module) -> str:
    """`patch_embed`, `qkv`, `proj`, `fc1`, `fc2`, `reduction`, `coordinates`, `head` or `other`, for a layer.

    What its attribute `role` says, or what its qualified name tells.
    """
    if (role := getattr(module, "role", None)) is not None:
        return role
    if name.endswith("patch_embed.proj"):
        return "patch_embed"
    if name.startswith("head"):
        return "head"
    last = name.rpartition(".")[2]
    return last if last in INPUT_ROLES else "other"


def quantize_model(model: nn.Module, scheme: Scheme) -> nn.Module:
    """Replace every Linear, Conv2d and attention product in place; quantizers start switched off.

    BatchNorm is folded first. Roles of the scheme that no site has are kept as `model.absent_roles`, for the scheme
    card. Raises `ValueError` for an attention that cannot be opened (gated attention).
    """
    fold_batchnorm(model)
    for name, module in list(model.named_modules()):
        if type(module) in (nn.Linear, nn.Conv2d):
            role = role_of(name, module)
            layer = QuantLinear if isinstance(module, nn.Linear) else QuantConv2d
            inputs, weights = make(scheme, INPUT_ROLES.get(role, "other")), make(scheme, f"weight:{role}")
            _replace(model, name, layer(module, inputs, weights))
    for name, module in list(model.named_modules()):
        if isinstance(module, Attention | WindowAttention):
            if getattr(module, "gate", None) is not None:
                raise ValueError(f"{name}: gated attention cannot be quantized")
            _replace(model, name, QuantAttention(module, scheme))
        elif isinstance(module, WeightedSum):
            _replace(model, name, QuantWeightedSum(make(scheme, "post_softmax"), make(scheme, "value")))
    present = {f"weight:{q.role}" if name.endswith("weight_quantizer") else q.role for name, q in sites(model)}
    model.absent_roles = tuple(role for role in scheme if role not in {"weight", "activation", *present})
    model.requires_grad_(False)
    return model.eval()


def set_mode(model: nn.Module, mode: str, *, weights: bool = True, activations: bool = True) -> None:
    """Put the quantizers of weights and/or activations into mode "off", "observe" or "on"."""
    for name, quantizer in sites(model):
        if weights if name.endswith("weight_quantizer") else activations:
            quantizer.mode = mode


def quant_layers(model: nn.Module) -> Iterator[tuple[str, QuantLayer]]:
    """Every quantized Linear and Conv2d with its qualified name."""
    for name, module in model.named_modules():
        if isinstance(module, QuantLayer):
            yield name, module


def norm_pairs(model: nn.Module) -> Iterator[tuple[nn.LayerNorm, QuantLinear]]:
    """Every LayerNorm that feeds exactly one quantized Linear, with that Linear."""
    for module in model.modules():
        for norm_name, linear_name in NORM_PAIRS:
            try:
                norm, linear = module.get_submodule(norm_name), module.get_submodule(linear_name)
            except AttributeError:
                continue
            if isinstance(norm, nn.LayerNorm) and isinstance(linear, QuantLinear):
                yield norm, linear


@torch.no_grad()
def observe(model: nn.Module, forward: Callable[[nn.Module], object], **which: bool) -> None:
    """Set the ranges of all quantizers in one forward pass, each behind already quantized predecessors."""
    set_mode(model, "observe", **which)
    forward(model)


@torch.no_grad()
def observe_rest(model: nn.Module, forward: Callable[[nn.Module], object]) -> None:
    """Set the ranges of the quantizers that are still off, in one forward pass; none left, nothing is run."""
    rest = [quantizer for _, quantizer in sites(model) if quantizer.mode == "off"]
    for quantizer in rest:
        quantizer.mode = "observe"
    if rest:
        forward(model)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
