"""What a training step costs and where its time goes: `python -m aiqvit.speed --steps`.

A block of each family is trained for a few steps by every method that trains, as under `quick` but on few images.
Steps are timed where the method asks for them, so that all it does in one counts; beside them stands the forward and
backward pass of the full-precision block on as many samples. Without `bf16` products are in float32, with it in
bfloat16. Weights and images are random.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from statistics import mean

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from aiqvit.cli.clock import LEAST, WARM, Clock, median, timed
from aiqvit.interfaces import Bits, Job, Trained
from aiqvit.recon import rewriting
from aiqvit.recon.activations import ActivationStore
from aiqvit.recon.capture import first, unit_inputs
from aiqvit.registry import METHODS

BLOCKS = {"ViT": ("deit_tiny_patch16_224", "blocks.5"), "Swin": ("swin_tiny_patch4_window7_224", "layers.2.blocks.1")}
SIZE, BATCH = 224, 8  # pixels, images a step
BITS, STEPS = Bits(4, 4), 12
SHORT = {"images": BATCH, "batch": BATCH, "steps": STEPS, "scale_steps": 0, "high_bit_steps": STEPS, "search_steps": 0,
         "init_images": 4, "score_images": 2, "widths": 4, "rounds": 1, "refinements": 1, "curvature_images": BATCH,
         "relu": False, "put_back": False}
KINDS = {  # of operators by what their names have in them, the first that fits
    "matrix products": ("addmm", "aten::mm", "bmm", "convolution", "linear", "scaled_dot_product"),
    "norms, softmax, GELU": ("norm", "softmax", "gelu"),
    "optimizer": ("addcmul_", "addcdiv_", "lerp_", "Optimizer"),
    "random numbers": ("random_", "bernoulli"),
    "copies": ("copy_", "cat", "clone", "fill_", "zero_", "index", "pad"),
}
REST = "other operators, element by element"


class Operators:
    """For `Job.progress`: the seconds of the operators of training loops, by kind."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, items: Iterable, text: str = "", total: int | None = None) -> Iterator:
        """The first steps do not count."""
        items, run = list(items), profile(activities=[ProfilerActivity.CPU])
        for i, item in enumerate(items):
            if i == WARM:
                run.start()
            yield item
        if len(items) <= WARM:
            return
        run.stop()
        for event in run.key_averages():
            kind = next((k for k, names in KINDS.items() if any(name in event.key for name in names)), REST)
            self.seconds[kind] = self.seconds.get(kind, 0.0) + event.self_cpu_time_total / 1e6


def train(method: Trained, model: nn.Module, unit: str, images: Tensor, progress: Callable) -> None:
    """Train one unit of a copy of the model on `images` (B, 3, H, W)."""
    job = Job(copy.deepcopy(model), [unit], list(images.split(BATCH)), BITS, progress=progress)
    rewriting.quantized(method, job)


def step(method: Trained, model: nn.Module, unit: str, images: Tensor) -> float:
    """Seconds of a step, on average over the loops of the method of the median of each."""
    clock = Clock(images.device)
    train(method, model, unit, images, clock)
    return mean(median(seconds) for _, seconds in clock.laps if len(seconds) >= LEAST)


def full_precision(model: nn.Module, unit: str, images: Tensor) -> Callable[[], float]:
    """A function that gives the seconds of forward and backward pass of a full-precision unit."""
    block = copy.deepcopy(model.get_submodule(unit)).requires_grad_(True)
    (args, kwargs), = unit_inputs(model, unit, [images], lambda m, x: m(x), ActivationStore(2**32)).calls()

    return lambda: timed(lambda: first(block(*args, **kwargs)).square().mean().backward(), images.device, STEPS - WARM)


def methods() -> Iterator[tuple[str, Trained]]:
    """Every method that trains, with its title: in float32, then in bfloat16."""
    for name in METHODS.names():
        cls = METHODS.get(name)
        if issubclass(cls, Trained) and not cls.only_in_grids:
            have = {f.name for f in fields(cls)}
            settings = cls.presets["quick"] | {key: value for key, value in SHORT.items() if key in have}
            for half in (False, True):
                yield cls.title + half * ", bf16", cls(**settings | {"bf16": half})


def show(make: Callable[[str], nn.Module]) -> None:
    """Print a table a family: milliseconds of a step, its ratio to full precision, shares of what it does.

    `make` gives a model of timm with random weights.
    """
    kinds = [*KINDS, REST]
    for family, (name, unit) in BLOCKS.items():
        torch.manual_seed(0)
        model = make(name).eval().requires_grad_(False)
        images = torch.randn(BATCH, 3, SIZE, SIZE)
        plain = full_precision(model, unit, images)
        print(f"\n{family}: {unit} of {name}, {BATCH} images a step, {torch.get_num_threads()} threads\n")
        print("| method | ms a step | x forward + backward in fp32 | " + " | ".join(kinds) + " |")
        print("|---|---:|---:|" + "---:|" * len(kinds), flush=True)
        for title, method in methods():
            least = plain()
            seconds, least, spent = step(method, model, unit, images), min(least, plain()), Operators()
            train(method, model, unit, images, spent)
            shares = " | ".join(f"{spent.seconds.get(kind, 0.0) / sum(spent.seconds.values()):.0%}" for kind in kinds)
            print(f"| {title} | {seconds * 1e3:.0f} | {seconds / least:.2f} | {shares} |", flush=True)
