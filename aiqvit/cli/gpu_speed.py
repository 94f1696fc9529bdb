"""`aiqvit speed --gpu`: what a GPU gives, in parts within a budget of minutes, printed as Markdown as it comes."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator

import torch
from torch import nn

from aiqvit.bounds import Number
from aiqvit.cli.gpu_methods import HEAD, rows
from aiqvit.cli.gpu_steps import paper, replayed, steps
from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Bits, UserError
from aiqvit.settings import read

BITS = Bits(4, 4)
IMAGES, EVALUATED, BATCH, STEPS, MEASURED = 1024, 200, 32, 200, 20
Part = tuple[str, float, Callable[[float], Iterator[str]]]  # title, share of the budget by which it ends, its lines


def place(name: str) -> torch.device:
    """The device of a name. Raises `UserError` for a name that is none, and where there is no such GPU."""
    if name != "cpu" and not name.startswith("cuda"):
        raise UserError(f"--device {name!r}: expected cuda, cuda:1 or cpu")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--gpu: there is no device {name!r} here; --device cpu runs the same on the CPU") from error
    return torch.device(name)


def show(model: nn.Module, args: Namespace, device: torch.device) -> None:
    """Measure the methods `args.method` on the embedded minis, and the steps of some on a ViT; print part after part.

    A part ends where its share of `args.minutes` is used up; what no longer fits is said to be left out. Raises
    `UserError` for unknown methods and minutes that are no number.
    """
    choose_methods(args.method)
    minutes = budget(args.minutes)
    model, size = model.to(device), model.patch_embed.img_size[0]
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, size, size, generator=draw).to(device)
    block = f"blocks.{len(model.blocks) // 2}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}, {BITS} bits", flush=True)

    def agreement(deadline: float) -> Iterator[str]:
        yield HEAD
        yield from rows(str(device), args.method, EVALUATED, BITS)

    def whole(deadline: float) -> Iterator[str]:
        batches = [torch.randn(BATCH, 3, size, size, generator=draw).to(device) for _ in range(IMAGES // BATCH)]
        yield from paper(model, batches, STEPS, BITS, deadline)

    parts: list[Part] = [
        ("Methods at preset smoke on embedded data", 0.6, agreement),
        ("Steps of reconstruction", 0.7, lambda deadline: steps(model, block, images, MEASURED, BITS, deadline)),
        ("AIQViT paper on DeiT-Tiny", 0.95, whole),
        ("Compiled and replayed", 1.0, lambda deadline: replayed(model, block, images, MEASURED, BITS)),
    ]
    began = time.perf_counter()
    for title, share, lines in parts:
        _part(title, lines, began + 60 * minutes * share)


def budget(text: str) -> float:
    """Minutes. Raises `UserError` for what is no number."""
    try:
        return read(Number, text)
    except ValueError as error:
        raise UserError(f"--minutes {text!r}: {error}") from error


def _part(title: str, lines: Callable[[float], Iterator[str]], deadline: float) -> None:
    print(f"\n## {title}\n", flush=True)
    start, cut = time.perf_counter(), over(deadline)
    try:
        for line in () if cut else lines(deadline):
            print(line, flush=True)
            if cut := over(deadline):
                break
    except TimeoutError:
        cut = True
    rest = "; what is not shown is left out: no time" if cut else ""
    print(f"\n{time.perf_counter() - start:.1f} s{rest}", flush=True)


def over(deadline: float) -> bool:
    """Whether a moment of `time.perf_counter` is over."""
    return time.perf_counter() > deadline
