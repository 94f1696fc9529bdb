"""What no family knows is refused by name before any data is read; what a subclass changes is not ignored."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Attention, AttentionRope
from timm.models import vision_transformer as vit
from timm.models.resnet import BasicBlock, ResNet
from timm.models.xcit import Xcit
from torch import nn
from torchvision.models.vision_transformer import EncoderBlock

from aiqvit.families.opening import check, open_model, quantize_model
from aiqvit.interfaces import UserError
from aiqvit.quant.anatomy import norm_readers
from aiqvit.quant.card import sites
from aiqvit.quant.quantizers import Uniform
from aiqvit.quant.site import spec
from aiqvit.quant.surgery import model_sites
from tests.families.networks import SMALL, build, images, randomize


def ask(model: nn.Module, **options):
    return check(randomize(model).eval(), lambda m: m(images()), "mine", **options)


class Swapped(Attention):
    """Its keys ask and its queries answer."""

    def forward(self, x, attn_mask=None, is_causal=False):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(k, q, v).transpose(1, 2).flatten(2))


class Curious(nn.Module):
    """An activation function that nobody knows, or a norm."""

    def __init__(self, *_, **__):
        super().__init__()

    def forward(self, x):
        return x.sin()


class Loud(nn.LayerNorm):
    """A LayerNorm with something behind it."""

    def forward(self, x):
        return super().forward(x).tanh()


class Plain(nn.Module):
    """A network whose only attention is torch's own."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(48, 4, batch_first=True)
        self.head = nn.Linear(48, 7)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_attention_of_another_network_is_refused_by_the_name_of_the_first():
    network = Xcit(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, cls_attn_layers=1, num_classes=7)
    with pytest.raises(UserError, match=r"mine: .* first in blocks\.0\.attn \(timm\.models\.xcit\.XCA\)"):
        ask(network)
    with pytest.raises(UserError, match=r"no family knows the network mine \(timm\.models\.xcit\.Xcit\)"):
        ask(network, partial=True)


def test_a_network_without_attention_has_no_units():
    with pytest.raises(UserError, match=r"no family knows the network mine \(timm\.models\.resnet\.ResNet\)"):
        ask(ResNet(BasicBlock, (1, 1, 1, 1), num_classes=7))


def test_a_subclass_with_a_forward_of_its_own_is_refused():
    with pytest.raises(UserError, match=r"blocks\.0\.attn \(.*Swapped\)"):
        ask(vit.VisionTransformer(**SMALL, attn_layer=Swapped))
    found = ask(vit.VisionTransformer(**SMALL, attn_layer=Swapped), partial=True)
    assert 0.01 < found.missed < 0.2


def test_a_subclass_without_one_is_its_parent():
    assert ask(vit.VisionTransformer(**SMALL, attn_layer=type("Same", (Attention,), {}))).quantized > 0.99


def test_a_block_of_torchvision_with_a_forward_of_its_own_is_refused():
    network = build("tv_vit")

    class Reversed(EncoderBlock):
        def forward(self, x):
            return x + self.mlp(self.ln_2(x)) + self.self_attention(x, x.flip(1), x)[0]

    network.encoder.layers[1] = Reversed(3, 24, 48, 0.0, 0.0)
    with pytest.raises(UserError, match=r"encoder_layer_1\.self_attention \(torch.*MultiheadAttention\)"):
        ask(network)


@torch.no_grad()
def test_torch_s_own_attention_is_counted_and_refused():
    with pytest.raises(UserError, match=r"attention \(torch\.nn\.modules\.activation\.MultiheadAttention\)"):
        check(Plain().eval(), lambda m: m(torch.zeros(2, 5, 48)), "mine")


def test_an_activation_function_is_refused_by_name():
    with pytest.raises(UserError, match=r"activation function blocks\.\d\.mlp\.act \(.*Curious\) is not supported"):
        ask(vit.VisionTransformer(**SMALL, act_layer=Curious))
    with pytest.raises(UserError, match=r"activation function blocks\.0\.mlp_act \(.*Curious\) is not supported"):
        ask(vit.VisionTransformer(**SMALL, act_layer=Curious, block_fn=vit.ParallelScalingBlock))


def test_a_norm_is_refused_by_name():
    with pytest.raises(UserError, match=r"norm blocks\.\d\.norm\d \(.*Curious\) is not supported"):
        ask(vit.VisionTransformer(**SMALL, norm_layer=Curious))


def test_a_norm_that_computes_something_of_its_own_is_not_folded():
    model = open_model(vit.VisionTransformer(**SMALL, norm_layer=Loud))
    assert list(norm_readers(model)) == []
    assert {pair[0].role for pair in model_sites(model).values()}.isdisjoint({"post_layernorm"})


@pytest.mark.parametrize("attention", [Attention, partial(AttentionRope, qkv_fused=False), AttentionRope])
@torch.no_grad()
def test_gated_attention(attention):
    model = nn.Sequential(randomize(attention(24, 3, gated=True, scale_norm=True, norm_layer=nn.LayerNorm))).eval()
    x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
    expected = model(x)
    quantized = quantize_model(model, lambda site: spec(Uniform, 8))
    torch.testing.assert_close(quantized(x), expected)
    assert "0.gate.input_quantizer" in dict(sites(quantized))
    assert list(norm_readers(quantized)) == []  # the gate stands between the norm and the output layer


@pytest.mark.parametrize("name, roles", [
    ("vit", {"post_gelu"}), ("clip", {"post_gelu"}), ("siglip", {"post_gelu"}), ("tv_vit", {"post_gelu"}),
    ("vit_parallel", {"post_gelu"}), ("vit_swiglu", {"other"}), ("vit_swiglu_packed", {"other"}),
    ("eva02", {"other"}), ("eva02_scaled", {"post_layernorm"}), ("vit_qk_norm", {"post_layernorm"}),
])
def test_the_input_of_fc2_goes_by_the_activation_function(name, roles):
    found = model_sites(open_model(build(name)))
    assert {first.role for first, weight in found.values() if weight.role == "fc2"
            and first.layer.startswith(("blocks", "encoder"))} == roles


@pytest.mark.parametrize("name, role", [
    ("vit", "post_layernorm"), ("cait", "post_layernorm"), ("tv_swin_padded", "post_layernorm"), ("vit_rms", "other"),
    ("vit_post_norm", "residual"), ("eva_post_norm", "residual"), ("swinv2", "residual"), ("tv_swinv2", "residual"),
])
def test_what_stands_in_front_of_attention_and_feed_forward_network(name, role):
    found = model_sites(open_model(build(name)))
    assert {first.role for first, weight in found.values() if weight.role in ("qkv", "fc1")} == {role}


@torch.no_grad()
def test_the_count_leaves_torch_s_switch_as_it_was():
    before = torch.backends.mha.get_fastpath_enabled()
    ask(vit.VisionTransformer(**SMALL))
    assert torch.backends.mha.get_fastpath_enabled() == before
