"""torchvision's Vision Transformers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock, VisionTransformer
from torchvision.ops.misc import MLP

from aiqvit.families.attention import OpenAttention, linear, split_heads
from aiqvit.families.family import Family, activation, feeding, writes
from aiqvit.quant.anatomy import Anatomy, under


class SelfAttention(OpenAttention):
    """nn.MultiheadAttention of one input, whose projections become Linear layers `qkv` and `proj`."""

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads = source.num_heads
        self.qkv = linear(source.in_proj_weight, source.in_proj_bias)
        self.proj = linear(source.out_proj.weight, source.out_proj.bias)
        self.add_products(source.head_dim**-0.5)

    def forward(self, x: Tensor, *_: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        """x: (B, N, C), which stands for key and value too, to (B, N, C) and nothing."""
        return self.proj(self.attend(*split_heads(self.qkv(x), 3, self.num_heads))), None


def open_block(block: EncoderBlock) -> EncoderBlock:
    """An encoder block, which calls its attention with one input; of any other shape it stays closed."""
    source = block.self_attention
    if type(source) is nn.MultiheadAttention and source.in_proj_weight is not None and source.bias_k is None:
        block.self_attention = SelfAttention(source)
    return block


def block(module: EncoderBlock) -> Anatomy:
    """A norm in front of attention and one in front of the feed-forward network."""
    return Anatomy(feeds=feeding(module, [("ln_1", "self_attention"), ("ln_2", "mlp")]),
                   residual=writes(module, "self_attention", "mlp"))


def parts(sequence: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """What a sequence does in evaluation, in order, sequences inside it taken apart."""
    for name, module in sequence.named_children():
        if isinstance(module, nn.Sequential):
            yield from parts(module, f"{prefix}{name}.")
        elif not isinstance(module, nn.Dropout | nn.Identity):
            yield prefix + name, module


def in_front(sequence: nn.Sequential, prefix: str = "") -> dict[str, dict[str, str]]:
    """`activations` and `functions` of an anatomy: the layers of a sequence that stand behind an activation function.

    `prefix` is the name of the sequence in what is described.
    """
    found = [(under(prefix, name), under(prefix, before), activation(other, before))
             for (before, other), (name, layer) in pairwise(parts(sequence))
             if isinstance(layer, nn.Linear | nn.Conv2d) and not isinstance(other, nn.Linear | nn.Conv2d)]
    return {"activations": {name: kind for name, _, kind in found},
            "functions": {name: before for name, before, _ in found}}


def mlp(module: MLP) -> Anatomy:
    """Layers with an activation function between any two, the last one is fc2. A norm inside feeds none of them."""
    layers = [name for name, part in module.named_children() if isinstance(part, nn.Linear)]
    return Anatomy(roles=dict.fromkeys(layers, "fc1") | {layers[-1]: "fc2"}, reads=(layers[0],), writes=(layers[-1],),
                   **in_front(module))


def network(model: VisionTransformer) -> Anatomy:
    """Patch embedding, one layer or a convolutional stem; blocks; one head layer or two."""
    simple = isinstance(model.conv_proj, nn.Conv2d)
    heads = tuple(f"heads.{name}" for name, part in model.heads.named_children() if isinstance(part, nn.Linear))
    blocks = (f"encoder.layers.{name}" for name, _ in model.encoder.layers.named_children())
    roles = {"conv_proj" if simple else f"conv_proj.{next(parts(model.conv_proj))[0]}": "patch_embed"}
    before = in_front(model.heads, "heads")
    if not simple:
        before = {key: found | before[key] for key, found in in_front(model.conv_proj, "conv_proj").items()}
    *_, last = ("conv_proj",) if simple else (f"conv_proj.{name}" for name, _ in parts(model.conv_proj))
    return Anatomy(roles=roles | ({heads[-1]: "head"} if heads else {}), units=("conv_proj", *blocks, *heads),
                   origins=(last, "class_token", "encoder.pos_embedding"),
                   feeds=feeding(model, [("encoder.ln", heads[0])]) if heads else {}, **before)


FAMILY = Family(opens={EncoderBlock: open_block}, describes={EncoderBlock: block, MLP: mlp},
                networks={VisionTransformer: network})
