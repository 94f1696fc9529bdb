"""python -m tests.families.survey [NAME ...]: how well every family is covered, on models of real size, as Markdown.

Random weights: norms and LayerScales from 0.5 to 1.5, matrices of unit gain. Errors are of the logits, relative to
their spread over classes; the column "opened" is the change of the logits before anything is switched on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import timm
import torch
import torchvision
from torch import Tensor, nn

from aiqvit.families.opening import check, quantize_model
from aiqvit.interfaces import Bits, Job
from aiqvit.quant.observers import MinMax
from aiqvit.quant.quantizers import LogSqrt2, Uniform
from aiqvit.quant.site import Scheme, by_role, spec
from aiqvit.quant.surgery import calibrate
from aiqvit.transforms.reparam import reparameterize
from tests.families.networks import images, randomize

TIMM = [
    "vit_tiny_patch16_224", "vit_base_patch16_224", "deit_small_patch16_224", "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224", "vit_medium_patch16_gap_256", "vit_medium_patch16_reg4_gap_256",
    "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_clip_224",
    "vit_base_patch16_siglip_224", "vit_base_patch16_rpn_224", "vit_base_patch16_xp_224",
    "vit_small_patch16_18x2_224", "vit_dlittle_patch16_reg1_gap_256", "vit_dpwee_patch16_reg1_gap_256",
    "vit_small_patch16_rope_224", "vit_small_patch16_rope_mixed_224", "vit_small_patch16_dinov3",
    "vit_pe_core_tiny_patch16_384", "eva02_tiny_patch14_224", "eva02_base_patch16_clip_224", "beit_base_patch16_224",
    "beitv2_base_patch16_224", "beit3_base_patch16_224", "cait_xxs24_224", "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
]
TORCHVISION = ["vit_b_16", "swin_t", "swin_v2_t"]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "add-a-family.md"
LARGEST = 256  # side of an image; models that are made for larger ones take 224


def load(name: str) -> tuple[nn.Module, int]:
    """A model with random weights and 1000 classes, and the side of its images."""
    if name in TORCHVISION:
        return randomize(torchvision.models.get_model(name)).eval(), 224
    side = timm.get_pretrained_cfg(name).input_size[-1]
    smaller = {"img_size": 224} if side > LARGEST else {}
    return randomize(timm.create_model(name, num_classes=1000, **smaller)).eval(), smaller.get("img_size", side)


def error(got: Tensor, full: Tensor) -> float:
    """Relative error of logits (B, classes)."""
    return ((got - full).norm() / (full - full.mean(1, keepdim=True)).norm()).item()


WHOLE = by_role({"default": spec(Uniform, 8, 0, MinMax())}, {"default": spec(Uniform, 8, None, MinMax())})
SEARCHED = by_role({"default": spec(Uniform, 8, 0)},
                   {"default": spec(Uniform, 8), "post_layernorm": spec(Uniform, 8, -1, include_zero=False),
                    "post_softmax": spec(LogSqrt2, 8)})


def minmax(model: nn.Module, x: Tensor) -> nn.Module:
    """8/8 with the whole range of everything."""
    return fitted(model, WHOLE, x)


def repq(model: nn.Module, x: Tensor) -> nn.Module:
    """8/8 in RepQ-ViT's manner: a range per channel behind norms, folded; logarithms behind the Softmax."""
    model = fitted(model, SEARCHED, x)
    reparameterize(model)
    return model


def fitted(model: nn.Module, scheme: Scheme, x: Tensor) -> nn.Module:
    """The model quantized by this scheme and calibrated on x."""
    model = quantize_model(model, scheme)
    calibrate(model, lambda m: m(x), images=len(x))
    return model


def method(name: str) -> Callable[[nn.Module, Tensor], nn.Module]:
    """A registered method at 8/8."""
    from aiqvit.registry import METHODS

    return lambda model, x: METHODS.get(name)().quantize(Job(model, None, [x], Bits.parse("8/8")))


@torch.no_grad()
def row(name: str, methods: dict[str, Callable[[nn.Module, Tensor], nn.Module]]) -> str:
    """One line of the table."""
    model, side = load(name)
    x = images(4, side)
    full = model(x)
    covered = check(model, lambda m: m(x[:1]), name)
    opened = error(quantize_model(deepcopy(model), WHOLE)(x), full)
    errors = [error(quantize(deepcopy(model), x)(x), full) for quantize in methods.values()]
    where = "torchvision" if name in TORCHVISION else "timm"
    return (f"| {where} `{name}` | {covered.macs / 1e9:.2f} | {100 * covered.quantized:.2f} | {opened:.0e} | "
            + " | ".join(f"{e:.3f}" for e in errors) + " |")


def main(arguments: list[str]) -> None:
    """Print the table. `--schemes` asks the schemes in this file instead of the registered methods, `--write` puts the
    table into the docs."""
    names = [a for a in arguments if not a.startswith("--")] or [*TIMM, *TORCHVISION]
    methods = {"MinMax": minmax, "RepQ-ViT": repq}
    if "--schemes" not in arguments:
        methods = {"MinMax": method("minmax"), "RepQ-ViT": method("repqvit")}
    titles = " | ".join(f"{title} 8/8" for title in methods)
    lines = [f"| model | GMAC | coverage % | opened | {titles} |", "|---|" + "---:|" * (3 + len(methods))]
    print("\n".join(lines))
    for name in names:
        lines.append(row(name, methods))
        print(lines[-1], flush=True)
    if "--write" in arguments:
        before, _, rest = DOCS.read_text().partition("<!-- survey -->\n")
        _, end, after = rest.partition("<!-- end of survey -->")
        DOCS.write_text("".join([before, "<!-- survey -->\n", *(f"{line}\n" for line in lines), end, after]))


if __name__ == "__main__":
    main(sys.argv[1:])
