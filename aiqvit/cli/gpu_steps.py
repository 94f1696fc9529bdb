"""Time of the steps of reconstruction on a device, beside forward and backward of the same block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn

from aiqvit.cli.clock import LEAST, WARM, Clock, median, timed
from aiqvit.harness.launch.options import choose_methods
from aiqvit.interfaces import Bits, Job
from aiqvit.recon.capture import Reached
from aiqvit.recon.rewriting import quantized

METHODS = "qdrop,brecq,aiqvit,glfq"


def block_input(model: nn.Module, block: str, images: Tensor) -> Tensor:
    """What a block of the model gets."""
    def stop(_: nn.Module, args: tuple) -> None:
        raise Reached(args[0])

    hook = model.get_submodule(block).register_forward_pre_hook(stop)
    try:
        model(images)
    except Reached as reached:
        return reached.args[0].detach()
    finally:
        hook.remove()
    raise ValueError(f"{block} is not reached")


def steps(model: nn.Module, block: str, images: Tensor, count: int, bits: Bits, deadline: float) -> Iterator[str]:
    """Table rows, the first two the heading: milliseconds of forward and backward, and of a step of each method.

    `images` (B, 3, H, W) on the device are one batch; steps are medians of `count`.
    """
    yield "| block | ms | x fp32 |\n|---|---|---|"
    source, x = deepcopy(model.get_submodule(block)).requires_grad_(True), block_input(model, block, images)
    unit = timed(lambda: source(x).square().mean().backward(), x.device, count)
    with torch.autocast(x.device.type, torch.bfloat16):
        half = timed(lambda: source(x).square().mean().backward(), x.device, count)
    yield _row("fp32 forward + backward", unit, unit)
    yield _row("bf16 forward + backward", half, unit)
    settings = [f"steps={WARM + count}", f"search_steps={WARM + count}", f"batch={len(images)}"]
    for choice in choose_methods(METHODS, settings):
        clock = Clock(x.device, deadline)
        job = Job(deepcopy(model), [block], [images], bits, progress=clock)
        quantized(choice.build("smoke"), job)
        for text, seconds in clock.laps:
            if len(seconds) >= LEAST:
                yield _row(f"{choice.method.title} step{text.removeprefix(block)}", median(seconds), unit)


def _row(name: str, seconds: float, first: float) -> str:
    return f"| {name} | {1e3 * seconds:.2f} | {seconds / first:.2f} |"


def paper(model: nn.Module, batches: list[Tensor], count: int, bits: Bits, deadline: float) -> Iterator[str]:
    """A line: how long AIQViT `paper` takes on the model, from `count` steps in place of those of each loop.

    Each step that was left out counts as the median step of its loop; all else is done once and counts as it is.
    """
    (choice,) = choose_methods("aiqvit")
    full = choice.build("paper")
    (short,) = choose_methods(f"aiqvit[steps={count},search_steps={count}]")
    clock, began = Clock(batches[0].device, deadline), time.perf_counter()
    quantized(short.build("paper"), Job(deepcopy(model), None, batches, bits, progress=clock))
    done = time.perf_counter() - began
    more = sum(median(seconds) * (max((full.search_steps if text.endswith("rank search") else full.steps) - count, 0))
               for text, seconds in clock.laps)
    yield (f"AIQViT paper on {sum(map(len, batches))} images: {(done + more) / 60:.1f} min extrapolated "
           f"(measured {done:.1f} s with {count} steps a loop in {len(clock.laps)} loops; goal 3 min)")


def replayed(model: nn.Module, block: str, images: Tensor, count: int, bits: Bits) -> Iterator[str]:
    """Table rows, the first the heading: forward and backward of a quantized block, also compiled and replayed."""
    yield "| quantized block | ms | x as it is |\n|---|---|---|"
    (choice,) = choose_methods("qdrop[steps=0]")
    student = quantized(choice.build("smoke"), Job(deepcopy(model), [block], [images], bits))
    unit, x = student.get_submodule(block).requires_grad_(True), block_input(model, block, images)
    ways: dict[str, Callable[[], nn.Module]] = {"as it is": lambda: unit, "torch.compile": lambda: torch.compile(unit)}
    if x.device.type == "cuda":
        ways["CUDA graph"] = lambda: torch.cuda.make_graphed_callables(unit, (x.clone(),))
    first = None
    for name, way in ways.items():
        try:
            run = way()
            seconds = timed(lambda run=run: run(x).square().mean().backward(), x.device, count)
        except Exception as error:  # a compiler or a driver that is not there
            yield f"| {name} | does not run: {type(error).__name__} | |"
            continue
        first = first or seconds
        yield _row(name, seconds, first)
