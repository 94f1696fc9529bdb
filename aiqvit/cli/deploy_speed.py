"""`aiqvit speed --deploy`: exported models beside full precision and the runtimes' own quantization."""

from __future__ import annotations

import copy
from argparse import Namespace

import torch
from torch import Tensor, nn

from aiqvit.bounds import Threads
from aiqvit.deploy.proof.runtime import onnxruntime
from aiqvit.deploy.proof.table import compare
from aiqvit.harness.identity.labels import label
from aiqvit.harness.launch.options import choose_methods, split
from aiqvit.harness.run.progress import progress
from aiqvit.interfaces import Bits, Job, UserError
from aiqvit.recon.rewriting import quantized
from aiqvit.settings import read

IMAGES = 8  # random ones, to calibrate on and to time


def show(model: nn.Module, args: Namespace) -> None:
    """Quantize, export, measure and print one table; `args` as `aiqvit.speed` reads them.

    Raises `UserError` for unknown methods, numbers out of their bounds and a missing extra.
    """
    onnxruntime()
    batches, threads, (rounds, *_) = (numbers(name, getattr(args, name)) for name in ("batch", "threads", "rounds"))
    size = getattr(model, "pretrained_cfg", {}).get("input_size", (3, 224, 224))
    images = torch.randn(IMAGES, *size, generator=torch.Generator().manual_seed(0))
    quantized = quantize(model, images, args.method, args.bits)
    print(f"{args.model}, random weights and images, methods at preset smoke")
    print(compare(model, quantized, images, batches=batches, threads=threads, rounds=rounds, progress=progress))


def quantize(model: nn.Module, images: Tensor, methods: str, bits: str) -> dict[str, nn.Module]:
    """A copy of the model quantized by each method at each bits, by the name that a table gives it."""
    wanted = [(choice, Bits.parse(text)) for choice in choose_methods(methods) for text in split(bits)]
    found = {}
    for choice, width in progress(wanted, "quantizing"):
        job = Job(copy.deepcopy(model), None, list(images.split(4)), width, bit_rules=choice.bit_rules)
        title = label(choice.method.title, choice.changed, choice.defaults("smoke"))
        found[f"{title} {width}"] = quantized(choice.build("smoke"), job)
    return found


def numbers(flag: str, text: str) -> list[int]:
    """Whole numbers of a comma list. Raises `UserError` for what is none, or beyond any machine."""
    try:
        return [read(Threads, part) for part in split(text)]
    except ValueError as error:
        raise UserError(f"--{flag} {text!r}: {error}") from error
