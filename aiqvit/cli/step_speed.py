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

Case = tuple[str, nn.Module, str, Tensor]  # title, model, the unit to train, the samples of one step
BITS, STEPS = Bits(4, 4), 12
SHORT = {"steps": STEPS, "scale_steps": 0, "high_bit_steps": STEPS, "search_steps": 0, "init_images": 4,
         "score_images": 2, "widths": 4, "rounds": 1, "refinements": 1, "relu": False, "put_back": False}
AS_MANY = ("images", "batch", "curvature_images")  # as there are samples
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


def train(method: Trained, model: nn.Module, unit: str, samples: Tensor, progress: Callable) -> None:
    """Train one unit of a copy of the model on one batch of samples (B, ...)."""
    job = Job(copy.deepcopy(model), [unit], [samples], BITS, progress=progress)
    rewriting.quantized(method, job)


def step(method: Trained, model: nn.Module, unit: str, samples: Tensor) -> float:
    """Seconds of a step, on average over the loops of the method of the median of each."""
    clock = Clock(samples.device)
    train(method, model, unit, samples, clock)
    return mean(median(seconds) for _, seconds in clock.laps if len(seconds) >= LEAST)


def full_precision(model: nn.Module, unit: str, samples: Tensor) -> Callable[[], float]:
    """A function that gives the seconds of forward and backward pass of a full-precision unit."""
    block = copy.deepcopy(model.get_submodule(unit)).requires_grad_(True)
    (args, kwargs), = unit_inputs(model, unit, [samples], lambda m, x: m(x), ActivationStore(2**32)).calls()

    return lambda: timed(lambda: first(block(*args, **kwargs)).square().mean().backward(), samples.device, STEPS - WARM)


def methods(count: int) -> Iterator[tuple[str, Trained]]:
    """Every method that trains on `count` samples, with its title: in float32, then in bfloat16."""
    for name in METHODS.names():
        cls = METHODS.get(name)
        if issubclass(cls, Trained) and not cls.only_in_grids:
            have = {f.name for f in fields(cls)}
            short = SHORT | dict.fromkeys(AS_MANY, count)
            settings = cls.presets["quick"] | {key: value for key, value in short.items() if key in have}
            for half in (False, True):
                yield cls.title + half * ", bf16", cls(**settings | {"bf16": half})


def show(cases: Iterable[Case]) -> None:
    """Print a table a case: milliseconds of a step, its ratio to full precision, shares of what it does."""
    kinds = [*KINDS, REST]
    for title, model, unit, samples in cases:
        model = model.eval().requires_grad_(False)
        plain = full_precision(model, unit, samples)
        print(f"\n{unit} of {title}, {len(samples)} samples a step, {torch.get_num_threads()} threads\n")
        print("| method | ms a step | x forward + backward in fp32 | " + " | ".join(kinds) + " |")
        print("|---|---:|---:|" + "---:|" * len(kinds), flush=True)
        for name, method in methods(len(samples)):
            least = plain()
            seconds, least, spent = step(method, model, unit, samples), min(least, plain()), Operators()
            train(method, model, unit, samples, spent)
            shares = " | ".join(f"{spent.seconds.get(kind, 0.0) / sum(spent.seconds.values()):.0%}" for kind in kinds)
            print(f"| {name} | {seconds * 1e3:.0f} | {seconds / least:.2f} | {shares} |", flush=True)
