"""Quantized models to save and to load again: methods, bits and models, and what each model is given."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from aiqvit.tasks.mini import imagenet as mini
from aiqvit.tasks.models.point_weights import sizes
from torch import Tensor, nn

from aiqvit.deploy.info import Info, attach
from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Bits, Job
from aiqvit.recon import rewriting
from tests import test_contract as contract

METHODS = contract.METHOD_NAMES
DETECTORS = ("mini_mask_rcnn_swin", "mini_cascade_mask_rcnn_swin")
MODELS = (*contract.MODELS, "modelnet40", *DETECTORS)
WIDTHS = (2, 3, 4, 6, 8)
UNITS = ("backbone.patch_embed", "backbone.stages.0.blocks.1", "backbone.stages.1.downsample", "neck.fpn_convs.0")
VARIANTS = {  # of methods, each with a format or a tensor that no other case has
    "brecq[operands=head,weights=output]": "3/4", "brecq[protocol=paper]": "4/4",
    "aiqvit[form=outside]": "3/3", "aiqvit[form=qllm]": "4/4", "aiqvit[decoding=intzp]": "3/4",
    "aiqvit[decoding=zero_low]": "4/3", "aiqvit[dfq=off,softmax=log_sqrt2]": "4/4", "aiqvit[head=on]": "4/4",
    "repqvit[official_levels=on]": "4/4", "repqvit[official_levels=on,bits:head=2/8]": "8/8",
    "adalog[protocol=paper]": "3/4", "adalog[official_levels=on]": "8/8",
    "isvit[official_levels=on]": "3/3", "erq[dual=on]": "4/4", "fimaq[protocol=paper]": "3/4",
    "gptaq[activations=qdrop]": "3/3", "ptq4vit[official_sum=on]": "4/6", "apqvit[unsigned=off]": "6/6",
    "minmax": "4/32", "repqvit": "4/16", "ptq4vit": "2/16", "isvit": "3/32",
    "minmax[rotate=on]": "4/4", "brecq[rotate=on]": "3/5", "aiqvit[rotate=on]": "4/4",
    "blockwise[relu=on]": "3/3", "glfq": "4/4",
    "minmax[bits:head=32,bits:blocks.0.*=3/5,bits:patch_embed=7]": "4/6", "aiqvit[bits:fc2=8/3]": "5/7",
}


class Case(NamedTuple):
    """A method as typed, a model, bits."""

    method: str
    model: str
    bits: str


def every() -> Iterator[Case]:
    """Every method on every model at every width."""
    return (Case(method, model, f"{bits}/{bits}") for method in METHODS for model in MODELS for bits in WIDTHS)


def some() -> Iterator[Case]:
    """Of each method one model and one width: together all methods, models and widths."""
    for i, method in enumerate(METHODS):
        bits = WIDTHS[i % len(WIDTHS)]
        yield Case(method, MODELS[i % len(MODELS)], f"{bits}/{bits}")


@cache
def trained(name: str) -> nn.Module:
    """The mini model with its trained weights."""
    if name not in DETECTORS:
        return contract.trained(name)
    from aiqvit.tasks.detection import models
    from aiqvit.tasks.mini import coco
    from aiqvit.tasks.weights import load_state, read_state

    path, detector = str(coco.weights(name)), coco.detector(name)
    load_state(detector, read_state(path), path)
    return models.prepare(detector)


def given(name: str, seed: int = 7) -> Tensor:
    """One batch for a model: (2, 3, 64, 64), points (2, 32, C), or for a detector pixels (1, 3, 32, 72) as uint8."""
    draw = torch.Generator().manual_seed(seed)
    if name in DETECTORS:  # of a size that makes windows be padded
        return torch.randint(0, 256, (1, 3, 32, 72), generator=draw).byte()
    return contract.data(name)[:2] if name in contract.POINT_TASKS else torch.rand(2, 3, 64, 64, generator=draw) * 2 - 1


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What a model gives for a batch; of a detector, all raw outputs."""
    if x.dtype != torch.uint8:
        found = model(x)
        return [found] if isinstance(found, Tensor) else list(found)
    from aiqvit.tasks.detection.forward import raw_outputs

    return raw_outputs(model, samples(x))


def samples(pixels: Tensor) -> list[dict[str, Any]]:
    """Pixels (B, 3, H, W) as MMDetection takes them."""
    from mmdet.structures import DetDataSample

    size = tuple(pixels.shape[2:])
    meta = {"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)}
    return [{"inputs": image, "data_samples": DetDataSample(metainfo=meta)} for image in pixels]


def recipe(name: str) -> dict[str, Any]:
    """Who builds the model again."""
    if name in contract.POINT_TASKS:
        return {"builder": name, **sizes(trained(name))}
    return {"builder": "imagenet" if name in mini.MODELS else "coco", "model": name}


def quantized(case: Case) -> nn.Module:
    """The model after the method at preset smoke, which knows where it comes from."""
    if case.model in DETECTORS:
        from aiqvit.tasks.detection.forward import of_one_size, raw_outputs

        (choice,) = choose_methods(case.method)
        job = Job(copy.deepcopy(trained(case.model)), UNITS,
                  [samples(torch.cat([given(case.model, seed) for seed in range(2)]))], Bits.parse(case.bits),
                  bit_rules=choice.bit_rules, forward=raw_outputs, join=of_one_size)
        model = rewriting.quantized(choice.build("smoke"), job)
    else:
        model = contract.fresh(*case)
    return attach(model, Info(method=case.method, bits=case.bits, model=case.model, recipe=recipe(case.model)))
